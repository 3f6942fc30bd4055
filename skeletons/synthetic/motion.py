"""Synthetic motion: actions, and people that perform them in a room.

An action is a seeded choice of a few joints with a rhythm of their own; it is the same motion in
every format. Who performs it (size, proportions, speed, reach, stance) and how (left or right, how
far and which way each joint goes, onset, tempo, the way the body faces when the recording starts,
idle sway) differ from clip to clip and say nothing about the action.

Every random number comes from (seed, what it is for), so the archives are a function of their
parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skeletons.synthetic.figure import DEGREE, Array, Figure, Subject, rotation

TWO_PERSON = 10  # every tenth action is one of two people

# A stream of random numbers begins with the seed and what it is for: 0 for the actions, which all
# formats share, other numbers for the people and the clips of each format, which has its own.
_ACTION = 0

# How hard the recordings are. Pretraining tells clips apart by what is easiest, so they differ most
# in how they perform their action: how far each of its joints is held and swings, and which way.
# What no action explains (the way a body is turned in its first frame, by which it is normalised;
# its proportions, posture and sway) is small.
_TURNED = np.array((3, 3, 3)) * DEGREE  # at most, about x, y and z
_POSTURE, _SWAY = 1 * DEGREE, 1 * DEGREE  # standard deviations
_LIFT, _SWING = (0.5, 1.5), (0.6, 1.4)  # of a performance, as parts of the action's
_ASIDE = 0.25  # standard deviation of the way a ball joint is held, radians


@dataclass(frozen=True)
class Drive:
    """Movement of one joint in an action: held at `lift`, swinging by `swing` (radians, rotation
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
    """The people in a room: joints (frames, 2, joints, 3) in metres.

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
