"""Synthetic archives of NW-UCLA: what `skeletons.formats.nwucla` reads."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from errors import UserError
from skeletons.clips.layout import Layout
from skeletons.synthetic.archive import Archive
from skeletons.synthetic.figure import DEGREE, Figure, subject
from skeletons.synthetic.motion import action, scene
from skeletons.synthetic.sensor import Progress, Take, check, record

COUNTS = {"executions": "times a person repeats an action"}
_SUBJECT, _CLIP = 5, 6  # streams of random numbers
_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # in the order of their labels, 1 to 10


def generate(
    layout: Layout,
    *,
    seed: int,
    actions: int,
    subjects: int,
    cameras: int,
    executions: int,
    frames: tuple[int, int],
    noise: float,
    progress: Progress = iter,
) -> Iterator[Take]:
    """Clips of NW-UCLA, sorted by name: every action by every subject, execution and camera.

    `frames` are the least and the most of a clip, but of some the sensor kept one frame; `noise` is
    the sensor's standard deviation in metres. The people are not those of other formats, the
    actions are. A number that makes no sense raises UserError.
    """
    check(frames, noise, actions=actions, subjects=subjects, cameras=cameras)
    check(frames, noise, executions=executions)
    if actions > len(_ACTIONS):
        raise UserError(f"actions must be at most {len(_ACTIONS)} for NW-UCLA, not {actions}")
    figure = Figure(layout)
    acts = {number: action(figure, number, seed=seed) for number in _ACTIONS[:actions]}
    people = [subject(figure, seed, _SUBJECT, person) for person in range(subjects)]
    keys = [
        (number, person, execution, camera)
        for number in acts
        for person in range(1, subjects + 1)
        for execution in range(1, executions + 1)
        for camera in range(1, cameras + 1)
    ]
    for index, key in enumerate(progress(keys)):
        number, person, _, camera = key
        rng = np.random.default_rng((seed, _CLIP, *key))
        length = int(rng.integers(*frames, endpoint=True))
        pair = people[person - 1], people[person % subjects]
        room = scene(figure, pair, [(number, 0, length)], acts, length, rng)
        room = room[:, : layout.bodies]
        yaw = 45 * DEGREE * (camera - (cameras + 1) / 2)
        joints, inferred = record(figure, room, yaw, 1, noise, rng)
        kept = 1 if index % 29 == 11 else length
        name = "a{:02}_s{:02}_e{:02}_v{:02}".format(*key)
        yield Take(name, joints[:kept], inferred[:kept], [(number, 0, kept)])


def write(
    folder: Path,
    layout: Layout,
    takes: Iterable[Take],
    *,
    skeletons: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
) -> None:
    """Write clips into the archives `skeletons` in a folder. There are no label files or lists.

    An archive is named as in a dataset's description; the clips are dealt to several in turn.
    """
    with ExitStack() as stack:
        archives = [Archive(folder, name, None, stack) for name in skeletons]
        for index, clip in enumerate(takes):
            archives[index % len(archives)].add(f"{clip.name}.json", text(clip))


def text(clip: Take) -> bytes:
    """A clip as the JSON of NW-UCLA."""
    ((number, _, _),) = clip.labels
    fields = {
        "file_name": clip.name,
        "skeletons": clip.joints[:, 0].round(6).tolist(),
        "label": 1 + _ACTIONS.index(number),
    }
    return json.dumps(fields).encode()
