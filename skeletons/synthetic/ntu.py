"""Synthetic archives of NTU RGB+D 60 and 120, for `skeletons.formats.ntu` to read."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from skeletons.clips.layout import Layout
from skeletons.synthetic.archive import Archive
from skeletons.synthetic.figure import DEGREE, Figure, subject
from skeletons.synthetic.motion import TWO_PERSON, action, scene
from skeletons.synthetic.sensor import Progress, Session, Take, check, present, record

COUNTS = {"setups": "camera setups", "replications": "times a person repeats an action"}
_SUBJECT, _CLIP = 1, 3  # streams of random numbers


def generate(
    layout: Layout,
    session: Session,
    *,
    setups: int,
    replications: int,
    progress: Progress = iter,
) -> Iterator[Take]:
    """Clips of NTU RGB+D, sorted by name: every action by every subject, replication and camera.

    Subjects are spread evenly over the setups. Some clips lack a frame or the second person, or
    gain a ghost.
    """
    check(setups=setups, replications=replications)
    figure, seed, subjects = Figure(layout), session.seed, session.subjects
    acts = {number: action(figure, number, seed=seed) for number in range(1, session.actions + 1)}
    people = [subject(figure, seed, _SUBJECT, person) for person in range(subjects)]
    keys = sorted(
        (1 + (person - 1) * setups // subjects, camera, person, replication, number)
        for camera in range(1, session.cameras + 1)
        for person in range(1, subjects + 1)
        for replication in range(1, replications + 1)
        for number in acts
    )
    for index, key in enumerate(progress(keys)):
        setup, camera, person, replication, number = key
        rng = np.random.default_rng((seed, _CLIP, *key))
        length = int(rng.integers(*session.frames, endpoint=True))
        pair = people[person - 1], people[person % subjects]
        room = scene(figure, pair, [(number, 0, length)], acts, length, rng)
        if number % TWO_PERSON == 0:
            if index % 3 == 0:  # the second person is lost on the way, or never seen
                room[length // 3 if index % 4 == 1 else 0 :, 1] = 0
        elif index % 41 == 4:  # a ghost: a small still body beside the person
            ghost = figure.place(np.zeros((1, layout.joints, 3)), figure.bones / 3)
            room[length // 4 : length // 2, 1] = ghost + np.array((0.8, 0.5, 0.3))
        if index % 13 == 6:
            room[length // 2] = 0
        if index % 17 == 2:
            room[:2] = 0
        yaw = 45 * (camera - (session.cameras + 1) / 2) + (-1) ** replication * 20
        joints, inferred = record(figure, room, yaw * DEGREE, setup, session.noise, rng)
        yield Take("S{:03}C{:03}P{:03}R{:03}A{:03}".format(*key), joints, inferred)


def write(
    folder: Path,
    layout: Layout,
    takes: Iterable[Take],
    *,
    skeletons: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
) -> None:
    """Write clips into the archives `skeletons`. There are no label files or split lists."""
    with ExitStack() as stack:
        archives = [Archive(folder, name, "nturgb+d_skeletons", stack) for name in skeletons]
        for index, clip in enumerate(takes):
            data = text(layout, clip, crlf=index % 7 == 3)
            archives[index % len(archives)].add(f"{clip.name}.skeleton", data)


def text(layout: Layout, clip: Take, *, crlf: bool) -> bytes:
    """A clip as the text of a `.skeleton` file; `crlf` ends its lines like Windows."""
    leaf = np.bincount(layout.parents, minlength=layout.joints) == 0
    x, y, z = np.moveaxis(clip.joints, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = x / z, -y / z
    # A joint's orientation: the rotation of the y axis to its bone; the sensor gives none for the
    # outermost joints.
    bone = clip.joints - clip.joints[:, :, list(layout.parents)] + (0, 1e-9, 0)
    bone /= np.linalg.norm(bone, axis=-1, keepdims=True)
    turn = np.stack([1 + bone[..., 1], bone[..., 2], np.zeros_like(x), -bone[..., 0]], -1)
    turn *= ~leaf[:, None] / np.maximum(np.linalg.norm(turn, axis=-1, keepdims=True), 1e-6)
    pixels = np.stack([256 + 365 * u, 206 + 365 * v, 962 + 1060 * u, 534 + 1060 * v], -1)
    state = 2.0 - clip.inferred[..., None]
    rows = np.concatenate([clip.joints, pixels, turn, state], -1)  # (T, 2, joints, 12)
    lean = bone[:, :, layout.up[1]][..., (0, 2)]
    there = present(clip.joints)
    values = np.concatenate([lean, rows.reshape(*there.shape, -1)], -1)[there]
    joint = "%.7g %.7g %.7g %.2f %.2f %.2f %.2f %.5g %.5g %.5g %.5g %d\n"
    # 17 digits, and apart by less than a float64 can tell
    first = 72057594037927936 + zlib.crc32(clip.name.encode()) % 100000
    bodies = [
        f"{first + body} 0 1 1 1 1 0 %.7g %.7g 2\n{layout.joints}\n" + layout.joints * joint
        for body in range(2)
    ]
    template = f"{len(there)}\n" + "".join(
        f"{seen.sum()}\n" + "".join(bodies[body] for body in np.flatnonzero(seen)) for seen in there
    )
    filled = template % tuple(values.ravel().tolist())
    return (filled.replace("\n", "\r\n") if crlf else filled).encode()
