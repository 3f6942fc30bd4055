"""Synthetic archives of PKU-MMD, for `skeletons.formats.pku` to read."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from errors import UserError
from skeletons.clips.layout import Layout
from skeletons.synthetic.archive import Archive
from skeletons.synthetic.figure import DEGREE, Figure, subject
from skeletons.synthetic.motion import action, scene
from skeletons.synthetic.sensor import Progress, Session, Take, check, record

COUNTS = {"recordings": "long videos of a person", "instances": "actions in a video"}
_SUBJECT, _VIDEO = 2, 4  # streams of random numbers
_VIEWS = "LMR"


def generate(
    layout: Layout,
    session: Session,
    *,
    recordings: int,
    instances: int,
    progress: Progress = iter,
) -> Iterator[Take]:
    """Videos of PKU-MMD phase II: `recordings` by one subject after the other, each from every
    camera, each of `instances` actions with pauses between.

    The people are not those of other formats, the actions are. Every action occurs in a video
    before one occurs again.
    """
    check(recordings=recordings, instances=instances)
    if session.cameras > len(_VIEWS):
        allowed = f"at most {len(_VIEWS)} for PKU-MMD"
        raise UserError(f"cameras must be {allowed}, not {session.cameras}")
    figure, seed = Figure(layout), session.seed
    actions, subjects, cameras = session.actions, session.subjects, session.cameras
    acts = {number: action(figure, number, seed=seed) for number in range(1, actions + 1)}
    people = [subject(figure, seed, _SUBJECT, person) for person in range(subjects)]
    keys = [(recording, camera) for recording in range(recordings) for camera in range(cameras)]
    for recording, camera in progress(keys):
        rng = np.random.default_rng((seed, _VIDEO, recording, camera))
        numbers = [rng.permutation(actions) + 1 for _ in range(0, instances, actions)]
        lengths = rng.integers(*session.frames, size=instances, endpoint=True)
        ends = np.cumsum(rng.integers(8, 20, instances) + lengths)
        spans = np.stack([np.concatenate(numbers)[:instances], ends - lengths, ends], 1)
        labels = [(number, start, end) for number, start, end in spans.tolist()]
        length = labels[-1][2] + int(rng.integers(10))
        person = recording % subjects
        pair = people[person], people[(person + 1) % subjects]
        room = scene(figure, pair, labels, acts, length, rng)
        yaw = 45 * DEGREE * (camera - (cameras - 1) / 2)
        name = f"A{1 + recording // subjects:02}N{1 + person:02}-{_VIEWS[camera]}"
        yield Take(name, *record(figure, room, yaw, 1, session.noise, rng), labels)


def write(
    folder: Path,
    layout: Layout,
    takes: Iterable[Take],
    *,
    skeletons: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
) -> None:
    """Write videos into the archives `skeletons`, their labels into the archives `labels`, and the
    split lists.

    A split list with "view" in its name trains on all views but the left one, any other on two
    thirds of the people.
    """
    names = []
    with ExitStack() as stack:
        bodies = [Archive(folder, name, None, stack) for name in skeletons]
        spans = [Archive(folder, name, None, stack) for name in labels]
        for index, video in enumerate(takes):
            names.append(video.name)
            data = text(video, indent=index % 4 == 1)
            bodies[index % len(bodies)].add(f"{video.name}.txt", data)
            spans[index % len(spans)].add(f"{video.name}.txt", label_text(video))
    people = sorted({name[3:6] for name in names})
    tested = people[max(1, 2 * len(people) // 3) :]
    for split in splits:
        parts: tuple[list[str], list[str]] = ([], [])
        for name in names:
            parts[name[-1] == "L" if "view" in split else name[3:6] in tested].append(name)
        (folder / split).parent.mkdir(parents=True, exist_ok=True)
        (folder / split).write_bytes(split_text(*parts))


def text(clip: Take, *, indent: bool) -> bytes:
    """A video as the text of a PKU-MMD skeleton file; lines may begin with a space."""
    values = clip.joints.reshape(len(clip.joints), -1)
    line = indent * " " + " ".join(["%.6f"] * values.shape[1]) + "\n"
    return (line * len(values) % tuple(values.ravel().tolist())).encode()


def label_text(clip: Take) -> bytes:
    """A video's actions as the text of a PKU-MMD label file."""
    return "".join(
        f"{act},{start},{end},{1 + act % 2}\n" for act, start, end in clip.labels
    ).encode()


def split_text(train: Sequence[str], test: Sequence[str]) -> bytes:
    """A PKU-MMD split list, spelt as the authors did."""
    return (
        f"Training videos:\n {', '.join(train)}, \nValidataion videos:\n {', '.join(test)}, \n"
    ).encode()
