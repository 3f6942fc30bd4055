"""Made-up recordings of human-like motion, in the archives and file formats of NTU RGB+D, PKU-MMD
and NW-UCLA.

A figure with fixed bones is bent joint by joint. An action is a seeded choice of a few joints with
a rhythm of their own; it is the same motion in every format. Who performs it (size, proportions,
speed, reach, stance), how (left or right, how far and which way each joint goes, onset, tempo, the
way the body faces when the recording starts, idle sway) and how it is seen (camera, sensor noise)
differ from clip to clip and say nothing about the action.

Every random number comes from (seed, what it is for), so the archives are a function of their
parameters.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeletons.layout import Layout

Array = NDArray[np.float64]
Progress = Callable[[Iterable[Any]], Iterable[Any]]

# Rest poses in metres: x from the body's left to its right, y up from the floor, z to its back (a
# Kinect's axes for a body that faces it). The side that is not given is the mirror image. Elbows,
# knees and ankles are a little bent: that bend is the one in which they move.
REST: dict[str, dict[int, tuple[float, float, float]]] = {
    "kinect-v2": {
        **{0: (0, 0.93, 0), 1: (0, 1.24, 0), 20: (0, 1.48, 0.01), 2: (0, 1.55, 0)},
        **{3: (0, 1.70, -0.02), 4: (-0.17, 1.42, 0.01), 5: (-0.22, 1.14, 0.03)},
        **{6: (-0.23, 0.90, -0.04), 7: (-0.23, 0.82, -0.07), 22: (-0.20, 0.80, -0.11)},
        **{21: (-0.23, 0.74, -0.11), 12: (-0.08, 0.90, 0), 13: (-0.10, 0.48, -0.03)},
        **{14: (-0.10, 0.09, 0.02), 15: (-0.12, 0.03, -0.09)},
    },
    "kinect-v1": {
        **{0: (0, 0.93, 0), 1: (0, 1.00, 0), 2: (0, 1.48, 0.01), 3: (0, 1.70, -0.02)},
        **{4: (-0.17, 1.42, 0.01), 5: (-0.22, 1.14, 0.03), 6: (-0.23, 0.90, -0.04)},
        **{7: (-0.23, 0.82, -0.07), 12: (-0.08, 0.90, 0), 13: (-0.10, 0.48, -0.03)},
        **{14: (-0.10, 0.09, 0.02), 15: (-0.12, 0.03, -0.09)},
    },
}

PKU_VIEWS = "LMR"
NWUCLA_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)  # in the order of their labels, 1 to 10
TWO_PERSON = 10  # every tenth action is one of two people

# What the random numbers of a stream are for.
_ACTION, _NTU_SUBJECT, _PKU_SUBJECT, _NTU_CLIP, _PKU_VIDEO, _NWUCLA_SUBJECT, _NWUCLA_CLIP = range(7)

_DEGREE = np.pi / 180

# How hard the recordings are. Pretraining tells clips apart by what is easiest, so they differ most
# in how they perform their action: how far each of its joints is held and swings, and which way.
# What no action explains (the way a body is turned in its first frame, by which it is normalised;
# its proportions, posture and sway) is small.
_TURNED = np.array((3, 3, 3)) * _DEGREE  # at most, about x, y and z
_STANCE, _POSTURE, _SWAY = 1.5 * _DEGREE, 1 * _DEGREE, 1 * _DEGREE  # standard deviations
_PROPORTIONS = 0.02  # standard deviation of a bone's length, as a part of it
_SIZE = (0.97, 1.03)  # of a person, as a part of the rest pose
_LIFT, _SWING = (0.5, 1.5), (0.6, 1.4)  # of a performance, as parts of the action's
_ASIDE = 0.25  # standard deviation of the way a ball joint is held, radians
_TRUNK = 0.2  # times the noise: the error of the trunk, by which a clip is normalised
_GUESS = 4  # times the noise: the error of a hidden joint


class Figure:
    """A layout's skeleton in its rest pose. `hinge[j]` is the axis about which joint j bends, or
    None."""

    def __init__(self, layout: Layout) -> None:
        if layout.name not in REST:
            raise ValueError(f"no rest pose for layout {layout.name!r}: add one to {__name__}.REST")
        self.layout = layout
        pose = np.zeros((layout.joints, 3))
        for joint, place in REST[layout.name].items():
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
class Clip:
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


def _subject(figure: Figure, *key: int) -> Subject:
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


def _scene(
    figure: Figure,
    subjects: tuple[Subject, Subject],
    labels: Sequence[tuple[int, int, int]],
    acts: dict[int, Action],
    frames: int,
    rng: np.random.Generator,
) -> Array:
    """Joints (frames, 2, joints, 3) in metres of the room. The second body is zero outside
    two-person actions."""
    joints = np.zeros((frames, 2, figure.layout.joints, 3))
    pairs = [label for label in labels if label[0] % TWO_PERSON == 0]
    facing = 60 * _DEGREE if pairs and len(labels) == 1 else 0.0
    joints[:, 0] = _body(figure, subjects[0], 0, labels, acts, frames, facing, rng)
    if pairs:
        partner = _body(figure, subjects[1], 1, pairs, acts, frames, facing + np.pi, rng)
        gap = rng.uniform(0.8, 1.2)
        partner += gap * np.array((-np.sin(facing), 0, -np.cos(facing)))
        for _, start, end in pairs:
            joints[start:end, 1] = partner[start:end]
    return joints


def _present(joints: Array) -> NDArray[np.bool_]:
    """Which bodies (T, M) there are in joints (T, M, joints, 3)."""
    return np.any(joints != 0, axis=(2, 3))


def _see(
    figure: Figure,
    joints: Array,
    yaw: float,
    setup: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Array, NDArray[np.bool_]]:
    """What a camera makes of the room: joints in its coordinates with sensor noise, zero where
    there is no body, and which of them it had to guess."""
    there = _present(joints)[..., None, None]
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


def _check(frames: tuple[int, int], noise: float, **counts: int) -> None:
    for name, count in counts.items():
        if not 1 <= count <= 99:
            raise ValueError(f"{name} must be 1 to 99, not {count}")
    if not 8 <= frames[0] <= frames[1]:
        raise ValueError(f"frames must be at least 8, the least first, not {list(frames)}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, it is {noise}")


def ntu_clips(
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
) -> Iterator[Clip]:
    """Clips of NTU RGB+D, sorted by name: every action by every subject, replication and camera.

    Subjects are spread evenly over the setups. `frames` are the least and the most of a clip,
    `noise` is the sensor's standard deviation in metres. Some clips lack a frame or the second
    person, or gain a ghost. A number that makes no sense raises ValueError.
    """
    _check(frames, noise, actions=actions, subjects=subjects, cameras=cameras)
    _check(frames, noise, setups=setups, replications=replications)
    figure = Figure(layout)
    acts = {number: action(figure, number, seed=seed) for number in range(1, actions + 1)}
    people = [_subject(figure, seed, _NTU_SUBJECT, person) for person in range(subjects)]
    keys = sorted(
        (1 + (person - 1) * setups // subjects, camera, person, replication, number)
        for camera in range(1, cameras + 1)
        for person in range(1, subjects + 1)
        for replication in range(1, replications + 1)
        for number in acts
    )
    for index, key in enumerate(progress(keys)):
        setup, camera, person, replication, number = key
        rng = np.random.default_rng((seed, _NTU_CLIP, *key))
        length = int(rng.integers(*frames, endpoint=True))
        pair = people[person - 1], people[person % subjects]
        room = _scene(figure, pair, [(number, 0, length)], acts, length, rng)
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
        yaw = 45 * (camera - (cameras + 1) / 2) + (-1) ** replication * 20
        joints, inferred = _see(figure, room, yaw * _DEGREE, setup, noise, rng)
        yield Clip("S{:03}C{:03}P{:03}R{:03}A{:03}".format(*key), joints, inferred)


def pku_videos(
    layout: Layout,
    *,
    seed: int,
    actions: int,
    subjects: int,
    cameras: int,
    recordings: int,
    instances: int,
    frames: tuple[int, int],
    noise: float,
    progress: Progress = iter,
) -> Iterator[Clip]:
    """Videos of PKU-MMD phase II: `recordings` by one subject after the other, each from every
    camera, each of `instances` actions with pauses between.

    `frames` are the least and the most of an action, `noise` is as in `ntu_clips`. The people are
    not those of `ntu_clips`, the actions are. Every action occurs in a video before one occurs
    again. A number that makes no sense raises ValueError.
    """
    _check(frames, noise, actions=actions, subjects=subjects, cameras=cameras)
    _check(frames, noise, recordings=recordings, instances=instances)
    if cameras > len(PKU_VIEWS):
        raise ValueError(f"cameras must be at most {len(PKU_VIEWS)} for PKU-MMD, not {cameras}")
    figure = Figure(layout)
    acts = {number: action(figure, number, seed=seed) for number in range(1, actions + 1)}
    people = [_subject(figure, seed, _PKU_SUBJECT, person) for person in range(subjects)]
    keys = [(recording, camera) for recording in range(recordings) for camera in range(cameras)]
    for recording, camera in progress(keys):
        rng = np.random.default_rng((seed, _PKU_VIDEO, recording, camera))
        numbers = [rng.permutation(actions) + 1 for _ in range(0, instances, actions)]
        lengths = rng.integers(*frames, size=instances, endpoint=True)
        ends = np.cumsum(rng.integers(8, 20, instances) + lengths)
        spans = np.stack([np.concatenate(numbers)[:instances], ends - lengths, ends], 1)
        labels = [(number, start, end) for number, start, end in spans.tolist()]
        length = labels[-1][2] + int(rng.integers(10))
        person = recording % subjects
        pair = people[person], people[(person + 1) % subjects]
        room = _scene(figure, pair, labels, acts, length, rng)
        yaw = 45 * _DEGREE * (camera - (cameras - 1) / 2)
        name = f"A{1 + recording // subjects:02}N{1 + person:02}-{PKU_VIEWS[camera]}"
        yield Clip(name, *_see(figure, room, yaw, 1, noise, rng), labels)


def nwucla_clips(
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
) -> Iterator[Clip]:
    """Clips of NW-UCLA, sorted by name: every action by every subject, execution and camera.

    `frames` and `noise` are as in `ntu_clips`; of some clips the sensor kept one frame. The people
    are others. A number that makes no sense raises ValueError.
    """
    _check(frames, noise, actions=actions, subjects=subjects, cameras=cameras)
    _check(frames, noise, executions=executions)
    if actions > len(NWUCLA_ACTIONS):
        raise ValueError(
            f"actions must be at most {len(NWUCLA_ACTIONS)} for NW-UCLA, not {actions}"
        )
    figure = Figure(layout)
    acts = {number: action(figure, number, seed=seed) for number in NWUCLA_ACTIONS[:actions]}
    people = [_subject(figure, seed, _NWUCLA_SUBJECT, person) for person in range(subjects)]
    keys = [
        (number, person, execution, camera)
        for number in acts
        for person in range(1, subjects + 1)
        for execution in range(1, executions + 1)
        for camera in range(1, cameras + 1)
    ]
    for index, key in enumerate(progress(keys)):
        number, person, _, camera = key
        rng = np.random.default_rng((seed, _NWUCLA_CLIP, *key))
        length = int(rng.integers(*frames, endpoint=True))
        pair = people[person - 1], people[person % subjects]
        room = _scene(figure, pair, [(number, 0, length)], acts, length, rng)[:, : layout.bodies]
        yaw = 45 * _DEGREE * (camera - (cameras + 1) / 2)
        joints, inferred = _see(figure, room, yaw, 1, noise, rng)
        kept = 1 if index % 29 == 11 else length
        name = "a{:02}_s{:02}_e{:02}_v{:02}".format(*key)
        yield Clip(name, joints[:kept], inferred[:kept], [(number, 0, kept)])


def ntu_text(layout: Layout, clip: Clip, *, crlf: bool) -> bytes:
    """A clip as the text of a `.skeleton` file."""
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
    there = _present(clip.joints)
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
    text = template % tuple(values.ravel().tolist())
    return (text.replace("\n", "\r\n") if crlf else text).encode()


def pku_text(clip: Clip, *, indent: bool) -> bytes:
    """A video as the text of a PKU-MMD skeleton file; lines may begin with a space."""
    values = clip.joints.reshape(len(clip.joints), -1)
    line = indent * " " + " ".join(["%.6f"] * values.shape[1]) + "\n"
    return (line * len(values) % tuple(values.ravel().tolist())).encode()


def nwucla_text(clip: Clip) -> bytes:
    """A clip as the JSON of NW-UCLA."""
    ((number, _, _),) = clip.labels
    fields = {
        "file_name": clip.name,
        "skeletons": clip.joints[:, 0].round(6).tolist(),
        "label": 1 + NWUCLA_ACTIONS.index(number),
    }
    return json.dumps(fields).encode()


def label_text(clip: Clip) -> bytes:
    """A video's actions as the text of a PKU-MMD label file."""
    return "".join(
        f"{act},{start},{end},{1 + act % 2}\n" for act, start, end in clip.labels
    ).encode()


def split_text(train: Sequence[str], test: Sequence[str]) -> bytes:
    """A PKU-MMD split list, spelt as the authors did."""
    return (
        f"Training videos:\n {', '.join(train)}, \nValidataion videos:\n {', '.join(test)}, \n"
    ).encode()


def write_ntu(
    folder: Path, layout: Layout, clips: Iterable[Clip], *, skeletons: Sequence[str]
) -> None:
    """Write clips into the archives `skeletons` in a folder.

    An archive is named as in a dataset's description: a zip, a zip and a folder inside it, or a
    folder. The clips are dealt to several archives in turn.
    """
    with ExitStack() as stack:
        archives = [_Archive(folder, name, "nturgb+d_skeletons", stack) for name in skeletons]
        for index, clip in enumerate(clips):
            text = ntu_text(layout, clip, crlf=index % 7 == 3)
            archives[index % len(archives)].add(f"{clip.name}.skeleton", text)


def write_pku(
    folder: Path,
    videos: Iterable[Clip],
    *,
    skeletons: Sequence[str],
    labels: Sequence[str],
    splits: Sequence[str],
) -> None:
    """Write videos into the archives `skeletons`, their labels into the archives `labels`, as
    `write_ntu` does, and the split lists.

    A split list with "view" in its name trains on all views but the left one, any other on two
    thirds of the people.
    """
    names = []
    with ExitStack() as stack:
        bodies = [_Archive(folder, name, None, stack) for name in skeletons]
        spans = [_Archive(folder, name, None, stack) for name in labels]
        for index, video in enumerate(videos):
            names.append(video.name)
            text = pku_text(video, indent=index % 4 == 1)
            bodies[index % len(bodies)].add(f"{video.name}.txt", text)
            spans[index % len(spans)].add(f"{video.name}.txt", label_text(video))
    people = sorted({name[3:6] for name in names})
    tested = people[max(1, 2 * len(people) // 3) :]
    for split in splits:
        parts: tuple[list[str], list[str]] = ([], [])
        for name in names:
            parts[name[-1] == "L" if "view" in split else name[3:6] in tested].append(name)
        (folder / split).parent.mkdir(parents=True, exist_ok=True)
        (folder / split).write_bytes(split_text(*parts))


def write_nwucla(folder: Path, clips: Iterable[Clip], *, skeletons: Sequence[str]) -> None:
    """Write clips into the archives `skeletons`, as `write_ntu` does."""
    with ExitStack() as stack:
        archives = [_Archive(folder, name, None, stack) for name in skeletons]
        for index, clip in enumerate(clips):
            archives[index % len(archives)].add(f"{clip.name}.json", nwucla_text(clip))


class _Archive:
    """A zip or a folder that is being written; `inner` is the folder inside the zip where its name
    states none (None: the zip's own name)."""

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
        if self._zip is None:
            (self._folder / name).write_bytes(data)
            return
        # A fixed date, system and mode: the same bytes wherever and whenever it is written.
        info = zipfile.ZipInfo(f"{self._inner}/{name}", date_time=(2016, 1, 1, 0, 0, 0))
        info.create_system = 3
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)
