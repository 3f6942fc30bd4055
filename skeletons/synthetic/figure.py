"""Made-up recordings of human-like motion: people, their actions and what a sensor sees of them.

A module of `skeletons.reading.formats` writes them in the archives of its format.

A figure with fixed bones is bent joint by joint. An action is a seeded choice of a few joints with
a rhythm of their own; it is the same motion in every format. Who performs it (size, proportions,
speed, reach, stance), how (left or right, how far and which way each joint goes, onset, tempo, the
way the body faces when the recording starts, idle sway) and how it is seen (camera, sensor noise)
differ from clip to clip and say nothing about the action.

Every random number comes from (seed, what it is for), so the archives are a function of their
parameters.
"""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeletons.layout import Layout

Array = NDArray[np.float64]
Progress = Callable[[Iterable[Any]], Iterable[Any]]

TWO_PERSON = 10  # every tenth action is one of two people

# A stream of random numbers begins with the seed and what it is for: 0 for the actions, which all
# formats share, other numbers for the people and the clips of each format, which has its own.
_ACTION = 0

DEGREE = np.pi / 180

# How hard the recordings are. Pretraining tells clips apart by what is easiest, so they differ most
# in how they perform their action: how far each of its joints is held and swings, and which way.
# What no action explains (the way a body is turned in its first frame, by which it is normalised;
# its proportions, posture and sway) is small.
_TURNED = np.array((3, 3, 3)) * DEGREE  # at most, about x, y and z
_STANCE, _POSTURE, _SWAY = 1.5 * DEGREE, 1 * DEGREE, 1 * DEGREE  # standard deviations
_PROPORTIONS = 0.02  # standard deviation of a bone's length, as a part of it
_SIZE = (0.97, 1.03)  # of a person, as a part of the rest pose
_LIFT, _SWING = (0.5, 1.5), (0.6, 1.4)  # of a performance, as parts of the action's
_ASIDE = 0.25  # standard deviation of the way a ball joint is held, radians
_TRUNK = 0.2  # times the noise: the error of the trunk, by which a clip is normalised
_GUESS = 4  # times the noise: the error of a hidden joint


class Figure:
    """A layout's skeleton in its rest pose. `hinge[j]` is the axis about which joint j bends, or
    None. A layout whose rest pose lacks a joint raises ValueError."""

    def __init__(self, layout: Layout) -> None:
        placed = {either for joint, _ in layout.rest for either in (joint, layout.swap[joint])}
        lacking = sorted(set(range(layout.joints)) - placed)
        if lacking:
            numbers = ", ".join(map(str, lacking))
            raise ValueError(f"layout {layout.name!r}: its rest pose lacks the joints {numbers}")
        self.layout = layout
        pose = np.zeros((layout.joints, 3))
        for joint, place in layout.rest:
            pose[layout.swap[joint]] = np.multiply(place, (-1, 1, 1))
            pose[joint] = place
        parents = layout.parents
        self.root = next(joint for joint, parent in enumerate(parents) if joint == parent)
        self.bones = pose - pose[list(parents)]
        self.order = [self.root]
        for joint in self.order:  # grows while it is walked: parents come before children
            self.order += [j for j, parent in layout.bones if parent == joint]
        self.reach = np.zeros(layout.joints)  # metres of bone that a joint moves
        for joint in reversed(self.order[1:]):
            parent = parents[joint]
            self.reach[parent] += self.reach[joint] + np.linalg.norm(self.bones[joint])
        self.middle = [joint == mirror for joint, mirror in enumerate(layout.swap)]
        trunk = [self.middle[j] or self.middle[parent] for j, parent in enumerate(parents)]
        self.error = np.where(trunk, _TRUNK, 1.0)[:, None]  # of the sensor, as a part of its noise
        self.hinge: list[Array | None] = [None] * layout.joints
        for joint, parent in layout.bones:
            # Shoulders and hips, whose parent is on the middle line, turn every way.
            if self.reach[joint] and not self.middle[joint] and not self.middle[parent]:
                child = next(j for j, p in layout.bones if p == joint)
                axis = np.cross(self.bones[joint], self.bones[child])
                self.hinge[joint] = axis / np.linalg.norm(axis)

    def place(self, turns: Array, bones: Array) -> Array:
        """Joint positions (T, joints, 3), root at the origin, from rotation vectors `turns` (T,
        joints, 3; radians, in the frame of the parent) and bone vectors (joints, 3)."""
        local = rotation(turns)
        world = local.copy()
        joints = np.zeros_like(turns)
        for joint in self.order[1:]:
            parent = self.layout.parents[joint]
            joints[:, joint] = joints[:, parent] + world[:, parent] @ bones[joint]
            if self.reach[joint]:
                world[:, joint] = world[:, parent] @ local[:, joint]
        return joints


def rotation(vectors: Array) -> Array:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3) in radians (Rodrigues'
    formula)."""
    angle = np.linalg.norm(vectors, axis=-1)[..., None, None]
    cross = np.zeros((*vectors.shape, 3))
    cross[..., (2, 0, 1), (1, 2, 0)] = vectors
    cross[..., (1, 2, 0), (2, 0, 1)] = -vectors
    # sinc keeps the formula finite at angle 0
    return (
        np.eye(3)
        + np.sinc(angle / np.pi) * cross
        + 0.5 * np.sinc(angle / (2 * np.pi)) ** 2 * (cross @ cross)
    )


@dataclass(frozen=True)
class Drive:
    """How an action moves one joint: held at `lift`, swinging by `swing` (radians, rotation
    vectors)."""

    joint: int
    lift: Array
    swing: Array  # (harmonics, 3)
    phase: Array  # (harmonics,) radians


@dataclass(frozen=True)
class Action:
    """A motion. `sides`: with one limb ("one"), with "both" or in "turn"."""

    roles: tuple[tuple[Drive, ...], ...]  # one for each person
    cycles: float
    sides: str


@dataclass(frozen=True)
class Subject:
    """A person: bone vectors (joints, 3) in metres, stance (joints, 3) in radians, tempo and reach
    as factors."""

    bones: Array
    stance: Array
    tempo: float
    reach: float


@dataclass(frozen=True)
class Take:
    """What the sensor delivered: joints (T, bodies, joints, 3) in metres of the camera, in the
    order of the file and zero where there is no body; inferred (T, bodies, joints) where the sensor
    guessed. `labels`: (action, start, end) rows."""

    name: str
    joints: Array
    inferred: NDArray[np.bool_]
    labels: list[tuple[int, int, int]] = field(default_factory=list)


def action(figure: Figure, number: int, *, seed: int) -> Action:
    """The motion of an action number (1-based)."""
    rng = np.random.default_rng((seed, _ACTION, number))
    swap = figure.layout.swap
    limbs = [j for j in figure.order[1:] if figure.reach[j] and j <= swap[j]]
    weights = np.sqrt([figure.reach[j] for j in limbs])
    roles = []
    for _ in range(2 if number % TWO_PERSON == 0 else 1):
        chosen = rng.choice(len(limbs), 3, replace=False, p=weights / weights.sum())
        roles.append(tuple(_drive(figure, limbs[i], rng) for i in chosen))
    return Action(
        roles=tuple(roles),
        cycles=rng.choice([1.0, 1.5, 2.0, 3.0, 4.0]),
        sides=rng.choice(["one", "both", "turn"]),
    )


def _drive(figure: Figure, joint: int, rng: np.random.Generator) -> Drive:
    hinge = figure.hinge[joint]
    lift, swing = rng.uniform((0.5, 0.25), (1.4, 0.6))
    if hinge is not None:
        axes = np.tile(hinge, (3, 1))
        swing = min(swing, lift)
    else:
        axes = rng.normal(size=(3, 3))
        axes /= np.linalg.norm(axes, axis=1, keepdims=True)
        if figure.middle[joint]:
            lift, swing = lift / 3, swing / 2
    phase = rng.uniform(0, 2 * np.pi, 2)
    return Drive(joint, lift * axes[0], swing * axes[1:] * [[1], [0.4]], phase)


def subject(figure: Figure, *key: int) -> Subject:
    """A person; `key` is the seed, a number of the format's own and the person's number."""
    rng = np.random.default_rng(key)
    swap = list(figure.layout.swap)
    stretch = rng.normal(1, _PROPORTIONS, figure.layout.joints)
    stance = rng.normal(0, _STANCE, (figure.layout.joints, 3))
    return Subject(
        bones=figure.bones * (rng.uniform(*_SIZE) * (stretch + stretch[swap]) / 2)[:, None],
        stance=(stance + stance[swap] * (1, -1, -1)) / 2,
        tempo=rng.uniform(0.8, 1.25),
        reach=rng.uniform(0.75, 1.2),
    )


def _smooth(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _act(
    figure: Figure, act: Action, role: int, subject: Subject, frames: int, rng: np.random.Generator
) -> Array:
    """Rotation vectors (frames, joints, 3) that one performance of an action adds to the
    performer's stance."""
    start, end = rng.uniform((0.05, 0.75), (0.25, 0.95)) * frames
    progress = (np.arange(frames) - start) / (end - start)
    envelope = _smooth(progress / 0.2) * _smooth((1 - progress) / 0.2)
    cycles = act.cycles * subject.tempo * rng.uniform(0.9, 1.1)
    reach = subject.reach * rng.uniform(0.85, 1.15)
    turns = np.zeros((frames, figure.layout.joints, 3))
    for drive in act.roles[role % len(act.roles)]:
        mirror = figure.layout.swap[drive.joint]
        lift, swing = drive.lift * rng.uniform(*_LIFT), drive.swing * rng.uniform(*_SWING)
        if figure.hinge[drive.joint] is None:
            lift = lift + rng.normal(0, _ASIDE, 3)
        for second in (False, True) if act.sides != "one" and mirror != drive.joint else (False,):
            late = np.pi if second and act.sides == "turn" else 0.0
            angle = 2 * np.pi * cycles * np.outer(progress, (1, 2)) + drive.phase + late
            turn = envelope[:, None] * reach * (lift + np.sin(angle) @ swing)
            if second:
                turns[:, mirror] += turn * (1, -1, -1)
            else:
                turns[:, drive.joint] += turn
    if rng.random() < 0.5:  # the other way round
        turns = turns[:, list(figure.layout.swap)] * (1, -1, -1)
    return turns


def _body(
    figure: Figure,
    subject: Subject,
    role: int,
    labels: Sequence[tuple[int, int, int]],
    acts: dict[int, Action],
    frames: int,
    facing: float,
    rng: np.random.Generator,
) -> Array:
    """One person's joints (frames, joints, 3), standing on the floor at the origin, turned by
    `facing` radians."""
    shape = (figure.layout.joints, 3)
    moving = (figure.reach > 0)[:, None]
    turns = np.tile(subject.stance + rng.normal(0, _POSTURE, shape) * moving, (frames, 1, 1))
    sway = rng.normal(0, _SWAY, (3, *shape)) * moving
    for wave, period in zip(sway, rng.uniform(20, 90, 3), strict=True):
        turns += (
            wave * np.sin(2 * np.pi * (np.arange(frames) / period + rng.random()))[:, None, None]
        )
    # A person comes to each action leaning and looking elsewhere, and turns to it: the first frame
    # of a recording, by which it is normalised, says little about the rest.
    times, leans = [], []
    for number, start, end in labels:
        turns[start:end] += _act(figure, acts[number], role, subject, end - start, rng)
        settled = start + rng.uniform(0.1, 0.25) * (end - start)
        times += [start, settled, end]
        leans += [rng.uniform(-_TURNED, _TURNED), np.zeros(3), np.zeros(3)]
    lean = np.stack([np.interp(np.arange(frames), times, axis) for axis in np.transpose(leans)], 1)
    turns[:, figure.root] += lean * (1, 0, 1)
    joints = figure.place(turns, subject.bones)
    joints = joints @ rotation((facing + lean[:, 1])[:, None] * (0, 1, 0)).transpose(0, 2, 1)
    joints[..., 1] -= joints[..., 1].min(1, keepdims=True)
    return joints


def scene(
    figure: Figure,
    subjects: tuple[Subject, Subject],
    labels: Sequence[tuple[int, int, int]],
    acts: dict[int, Action],
    frames: int,
    rng: np.random.Generator,
) -> Array:
    """What happens in a room: joints (frames, 2, joints, 3) in metres.

    `labels` are (action, start, end) rows, `acts` the actions by their numbers. The first subject
    does them all; the second is the partner, zero outside two-person actions.
    """
    joints = np.zeros((frames, 2, figure.layout.joints, 3))
    pairs = [label for label in labels if label[0] % TWO_PERSON == 0]
    facing = 60 * DEGREE if pairs and len(labels) == 1 else 0.0
    joints[:, 0] = _body(figure, subjects[0], 0, labels, acts, frames, facing, rng)
    if pairs:
        partner = _body(figure, subjects[1], 1, pairs, acts, frames, facing + np.pi, rng)
        gap = rng.uniform(0.8, 1.2)
        partner += gap * np.array((-np.sin(facing), 0, -np.cos(facing)))
        for _, start, end in pairs:
            joints[start:end, 1] = partner[start:end]
    return joints


def present(joints: Array) -> NDArray[np.bool_]:
    """Which bodies (T, M) there are in joints (T, M, joints, 3)."""
    return np.any(joints != 0, axis=(2, 3))


def see(
    figure: Figure,
    joints: Array,
    yaw: float,
    setup: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Array, NDArray[np.bool_]]:
    """What a camera makes of the room's joints (T, bodies, joints, 3): joints in its coordinates
    with sensor noise, zero where there is no body, and which of them (T, bodies, joints) it had to
    guess.

    `yaw` is the camera's place around the room in radians, `setup` decides its height, distance and
    tilt, `noise` is the sensor's standard deviation in metres.
    """
    there = present(joints)[..., None, None]
    pitch = rotation(np.array((-0.05 * (1 + setup % 3), 0, 0)))
    turned = joints @ rotation(np.array((0, yaw, 0))).T - (0, 0.8 + 0.2 * (setup % 3), 0)
    seen = turned @ pitch.T + (rng.normal(0, 0.3), 0, 2.6 + 0.3 * (setup % 4) + rng.uniform(0, 0.6))
    error = rng.normal(0, 1, seen.shape)
    # Now and then a joint is hidden for a while, and guessed badly.
    inferred = np.zeros(seen.shape[:3], dtype=np.bool_)
    for _ in range(1 + len(seen) // 20):
        start, length = rng.integers(len(seen)), rng.integers(4, 16)
        body, joint = rng.integers(seen.shape[1]), rng.integers(figure.layout.joints)
        inferred[start : start + length, body, joint] = True
    error[inferred] += rng.normal(0, _GUESS, (np.count_nonzero(inferred), 3))
    return (seen + noise * figure.error * error) * there, inferred & there[..., 0]


def check(frames: tuple[int, int], noise: float, **counts: int) -> None:
    """Raise ValueError unless counts are 1 to 99, `frames` (the least and the most of an action)
    are at least 8 and in order, and `noise` is not negative."""
    for name, count in counts.items():
        if not 1 <= count <= 99:
            raise ValueError(f"{name} must be 1 to 99, not {count}")
    if not 8 <= frames[0] <= frames[1]:
        raise ValueError(f"frames must be at least 8, the least first, not {list(frames)}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, it is {noise}")


class Archive:
    """An archive that is being written, named as in a dataset's description: a zip, a zip and a
    folder inside it, or a folder. `inner` is the folder inside the zip where its name states none
    (None: the zip's own name). The `stack` closes it."""

    def __init__(self, folder: Path, name: str, inner: str | None, stack: ExitStack) -> None:
        before, zipped, below = name.partition(".zip")
        path = folder / (before + zipped)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._zip = None
        if zipped:
            self._zip = stack.enter_context(zipfile.ZipFile(path, "w"))
            self._inner = below.strip("/") or inner or path.stem
            self.add("", b"")
        else:
            self._folder = path
            path.mkdir(exist_ok=True)

    def add(self, name: str, data: bytes) -> None:
        """Write a file."""
        if self._zip is None:
            (self._folder / name).write_bytes(data)
            return
        # A fixed date, system and mode: the same bytes wherever and whenever it is written.
        info = zipfile.ZipInfo(f"{self._inner}/{name}", date_time=(2016, 1, 1, 0, 0, 0))
        info.create_system = 3
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)
