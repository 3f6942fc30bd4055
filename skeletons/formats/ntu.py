"""The `.skeleton` text of NTU RGB+D 60 and 120 (and of recordings in the same form): one file a
clip.

A file is a line with the number of frames; a frame is a line with the number of bodies; a body is a
line of 10 values, a line with the number of joints and a line of 12 values a joint, of which the
first three are x, y, z in metres (Kinect for Windows SDK 2.0). The name is `SsssCcccPpppRrrrAaaa`:
setup, camera, subject, replication and action (from 1).

A clip is valid when all these lines are there with their numbers of values, nothing but blank lines
follows, the counts agree with the layout and the sensor, all coordinates are numbers within
`FARTHEST` and a body is present in some frame. The other values are counted, not read: nothing uses
them. That goes for body IDs too; a body is known by its place.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skeletons import archive, synthetic
from skeletons.layout import Layout
from skeletons.normalise import largest_bodies
from skeletons.recording import LONGEST, Broken, BrokenClip, Clip, Recording, coordinates
from skeletons.synthetic import Progress
from skeletons.text import Words

COUNTS = {"setups": "camera setups", "replications": "times a person repeats an action"}
MOST_BODIES = 6  # the sensor tracks no more
BODIES_READ = 4  # the first of a frame; the others are left out
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_BODY_VALUES, _JOINT_VALUES = 10, 12
_SUBJECT, _CLIP = 1, 3  # streams of random numbers


def plan(
    skeletons: Sequence[Path], labels: Sequence[Path], *, classes: int, interval: str
) -> tuple[list[Recording], list[Broken]]:
    """The recordings of the archives, sorted by clip, and those whose names tell that they cannot
    be used.

    `labels` and `interval` are for formats that cut long videos. Raises ArchiveError for an
    unreadable archive.
    """
    recordings, broken = [], []
    for member in (member for path in skeletons for member in archive.members(path, ".skeleton")):
        name = member.stem
        numbers = _NAME.fullmatch(name)
        if not numbers:
            broken.append(Broken(name, member.place, None, "the name is not SsssCcccPpppRrrrAaaa"))
            continue
        setup, camera, subject, replication, action = map(int, numbers.groups())
        if not 1 <= action <= classes:
            reason = f"unknown action {action}: the dataset has {classes}"
            broken.append(Broken(name, member.place, None, reason))
            continue
        clip = Clip(name, action - 1, subject, camera, setup, replication)
        recordings.append(Recording(member, (clip,)))
    return sorted(recordings, key=lambda recording: recording.clips[0].name), broken


def read(
    data: bytes, recording: Recording, *, layout: Layout, classes: int, max_frames: int
) -> Iterator[tuple[Clip, int, NDArray[np.float64] | BrokenClip]]:
    """The recording's clip, its number of frames and its largest bodies (M, T, V, 3), as many as
    the layout has, or why it is broken.

    `classes` is for formats that state the label in the recording, `max_frames` for those that cut
    long videos.
    """
    (clip,) = recording.clips
    try:
        bodies = largest_bodies(parse(data, joints=layout.joints), layout.bodies)
        if not bodies.any():
            raise BrokenClip("no body: all coordinates are zero")
    except BrokenClip as error:
        yield clip, 0, error
    else:
        yield clip, bodies.shape[1], bodies


def parse(data: bytes, *, joints: int) -> NDArray[np.float64]:
    """The bodies of a file by their place in each frame: (M, T, V, 3) metres, M at most
    `BODIES_READ`, absent ones 0.

    Raises BrokenClip, and nothing else, for whatever is not a valid clip.
    """
    words = Words(data)
    integers = words.integers()
    frames = int(integers[0]) if words.lines else -1
    if frames < 0:
        raise BrokenClip("not skeleton text: the first line is not a number of frames", 1)
    if frames == 0:
        raise BrokenClip("0 frames", 1)
    if frames > LONGEST:
        raise BrokenClip(f"{frames} frames, where {LONGEST} is the most; cut it into clips", 1)

    numbers, ending = _bodies_of_frames(words, integers.tolist(), frames, joints)
    each = np.array(numbers, np.int64)
    frame = np.repeat(np.arange(len(each)), each)
    place = np.arange(len(frame)) - np.repeat(np.cumsum(each) - each, each)
    # The first line of a body: after the number of frames, a line each frame until then, and the
    # bodies until then.
    head = 2 + frame + np.arange(len(frame)) * (2 + joints)
    lines = head[:, None] + np.arange(2 + joints)
    _check_lines(words, integers, lines, joints)
    if ending:
        raise ending
    if not len(frame):
        raise BrokenClip("no body in any frame")

    metres = coordinates(words, *words.leading(lines[:, 2:], 3))
    bodies = np.zeros((max(numbers), frames, joints, 3))
    bodies[place, frame] = np.moveaxis(metres, 0, -1)
    return bodies[:BODIES_READ]


def _bodies_of_frames(
    words: Words, integers: list[int], frames: int, joints: int
) -> tuple[list[int], BrokenClip | None]:
    """The number of bodies of each frame, up to where the text stops being such frames, and then
    what is wrong.
    """
    numbers: list[int] = []
    line = 1
    for frame in range(1, frames + 1):
        if line >= words.lines:
            return numbers, BrokenClip(f"ends after {frame - 1} of {frames} frames", words.lines)
        bodies = integers[line]
        if bodies < 0:
            return numbers, BrokenClip(f"no number of bodies for frame {frame}", line + 1)
        if bodies > MOST_BODIES:
            reason = f"{bodies} bodies in frame {frame}, where {MOST_BODIES} is the most"
            return numbers, BrokenClip(reason, line + 1)
        line += 1 + bodies * (2 + joints)
        if line > words.lines:
            return numbers, BrokenClip(f"ends within frame {frame} of {frames}", words.lines)
        numbers.append(bodies)
    if words.first[-1] > words.first[line]:
        reason = f"more text after the last of {frames} frames"
        return numbers, BrokenClip(reason, line + 1 + int(np.argmax(words.counts[line:] > 0)))
    return numbers, None


def _check_lines(
    words: Words, integers: NDArray[np.int64], lines: NDArray[np.int64], joints: int
) -> None:
    """Raise BrokenClip for the first line of the bodies, `lines` (N, 2 + V), that is not what it
    must be.
    """
    expected = np.array([_BODY_VALUES, 1] + [_JOINT_VALUES] * joints)
    wrong = words.counts[lines] != expected
    wrong[:, 1] |= integers[lines[:, 1]] != joints
    if wrong.any():
        body, row = np.argwhere(wrong)[0]
        line = int(lines[body, row])
        reason = f"{words.counts[line]} values where {expected[row]} are due"
        if row == 1 and words.counts[line] == 1:
            ((start,), (end,)) = words.leading(np.array(line), 1)
            reason = f"{words.quote(start, end)} joints where the layout has {joints}"
        raise BrokenClip(reason, line + 1)


def make_up(
    layout: Layout,
    *,
    seed: int,
    actions: int,
    subjects: int,
    cameras: int,
    setups: int,
    replications: int,
    frames: tuple[int, int],
    noise: float,
    progress: Progress = iter,
) -> Iterator[synthetic.Clip]:
    """Clips of NTU RGB+D, sorted by name: every action by every subject, replication and camera.

    Subjects are spread evenly over the setups. `frames` are the least and the most of a clip,
    `noise` is the sensor's standard deviation in metres. Some clips lack a frame or the second
    person, or gain a ghost. A number that makes no sense raises ValueError.
    """
    synthetic.check(frames, noise, actions=actions, subjects=subjects, cameras=cameras)
    synthetic.check(frames, noise, setups=setups, replications=replications)
    figure = synthetic.Figure(layout)
    acts = {number: synthetic.action(figure, number, seed=seed) for number in range(1, actions + 1)}
    people = [synthetic.subject(figure, seed, _SUBJECT, person) for person in range(subjects)]
    keys = sorted(
        (1 + (person - 1) * setups // subjects, camera, person, replication, number)
        for camera in range(1, cameras + 1)
        for person in range(1, subjects + 1)
        for replication in range(1, replications + 1)
        for number in acts
    )
    for index, key in enumerate(progress(keys)):
        setup, camera, person, replication, number = key
        rng = np.random.default_rng((seed, _CLIP, *key))
        length = int(rng.integers(*frames, endpoint=True))
        pair = people[person - 1], people[person % subjects]
        room = synthetic.scene(figure, pair, [(number, 0, length)], acts, length, rng)
        if number % synthetic.TWO_PERSON == 0:
            if index % 3 == 0:  # the second person is lost on the way, or never seen
                room[length // 3 if index % 4 == 1 else 0 :, 1] = 0
        elif index % 41 == 4:  # a ghost: a small still body beside the person
            ghost = figure.place(np.zeros((1, layout.joints, 3)), figure.bones / 3)
            room[length // 4 : length // 2, 1] = ghost + np.array((0.8, 0.5, 0.3))
        if index % 13 == 6:
            room[length // 2] = 0
        if index % 17 == 2:
            room[:2] = 0
        yaw = 45 * (camera - (cameras + 1) / 2) + (-1) ** replication * 20
        joints, inferred = synthetic.see(figure, room, yaw * synthetic.DEGREE, setup, noise, rng)
        yield synthetic.Clip("S{:03}C{:03}P{:03}R{:03}A{:03}".format(*key), joints, inferred)


def write(
    folder: Path,
    layout: Layout,
    clips: Iterable[synthetic.Clip],
    *,
    skeletons: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
) -> None:
    """Write clips into the archives `skeletons` in a folder. There are no label files or lists.

    An archive is named as in a dataset's description: a zip, a zip and a folder inside it, or a
    folder. The clips are dealt to several archives in turn.
    """
    with ExitStack() as stack:
        archives = [
            synthetic.Archive(folder, name, "nturgb+d_skeletons", stack) for name in skeletons
        ]
        for index, clip in enumerate(clips):
            data = text(layout, clip, crlf=index % 7 == 3)
            archives[index % len(archives)].add(f"{clip.name}.skeleton", data)


def text(layout: Layout, clip: synthetic.Clip, *, crlf: bool) -> bytes:
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
    there = synthetic.present(clip.joints)
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
