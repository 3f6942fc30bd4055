"""A synthetic sensor: its place in the room, its noise and its guesses of hidden joints."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.synthetic.figure import Array, Figure, rotation

Progress = Callable[[Iterable[Any]], Iterable[Any]]

_TRUNK = 0.2  # times the noise: the error of the trunk, by which a clip is normalised
_GUESS = 4  # times the noise: the error of a hidden joint


@dataclass(frozen=True)
class Session:
    """Numbers of a synthetic dataset: `actions` done by `subjects` people before `cameras`.

    `frames` are the least and the most of an action, `noise` is the sensor's standard deviation in
    metres. Raises UserError for a number that makes no sense.
    """

    seed: int
    actions: int
    subjects: int
    cameras: int
    frames: tuple[int, int]
    noise: float

    def __post_init__(self) -> None:
        check(actions=self.actions, subjects=self.subjects, cameras=self.cameras)
        if not 8 <= self.frames[0] <= self.frames[1]:
            frames = list(self.frames)
            raise UserError(f"frames must be at least 8, the least first, not {frames}")
        if self.noise < 0:
            raise UserError(f"noise must not be negative, it is {self.noise}")


@dataclass(frozen=True)
class Take:
    """A recording of the sensor: joints (T, bodies, joints, 3) in metres of the camera, in the
    order of the file and zero where there is no body; inferred (T, bodies, joints) where the sensor
    guessed. `labels`: (action, start, end) rows."""

    name: str
    joints: Array
    inferred: NDArray[np.bool_]
    labels: list[tuple[int, int, int]] = field(default_factory=list)


def present(joints: Array) -> NDArray[np.bool_]:
    """True (T, M) for the bodies that are there in joints (T, M, joints, 3)."""
    return np.any(joints != 0, axis=(2, 3))


def record(
    figure: Figure,
    joints: Array,
    yaw: float,
    setup: int,
    noise: float,
    rng: np.random.Generator,
) -> tuple[Array, NDArray[np.bool_]]:
    """A camera's recording of the room's joints (T, bodies, joints, 3): joints in its coordinates
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
    scale = np.where(figure.trunk, _TRUNK, 1.0)[:, None]
    # Now and then a joint is hidden for a while, and guessed badly.
    inferred = np.zeros(seen.shape[:3], dtype=np.bool_)
    for _ in range(1 + len(seen) // 20):
        start, length = rng.integers(len(seen)), rng.integers(4, 16)
        body, joint = rng.integers(seen.shape[1]), rng.integers(figure.layout.joints)
        inferred[start : start + length, body, joint] = True
    error[inferred] += rng.normal(0, _GUESS, (np.count_nonzero(inferred), 3))
    return (seen + noise * scale * error) * there, inferred & there[..., 0]


def check(**counts: int) -> None:
    """Raise UserError unless counts are 1 to 99."""
    for name, count in counts.items():
        if not 1 <= count <= 99:
            raise UserError(f"{name} must be 1 to 99, not {count}")
