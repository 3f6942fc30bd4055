"""Synthetic people: a skeleton of fixed bones that is bent joint by joint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.clips.layout import Layout

Array = NDArray[np.float64]

DEGREE = np.pi / 180

_STANCE = 1.5 * DEGREE  # standard deviation of a person's posture
_PROPORTIONS = 0.02  # standard deviation of a bone's length, as a part of it
_SIZE = (0.97, 1.03)  # of a person, as a part of the rest pose


class Figure:
    """A layout's skeleton in its rest pose. `hinge[j]` is the axis about which joint j bends, or
    None. A layout whose rest pose lacks a joint raises UserError."""

    def __init__(self, layout: Layout) -> None:
        placed = {either for joint, _ in layout.rest for either in (joint, layout.swap[joint])}
        lacking = sorted(set(range(layout.joints)) - placed)
        if lacking:
            numbers = ", ".join(map(str, lacking))
            raise UserError(f"layout {layout.name!r}: its rest pose lacks the joints {numbers}")
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
        self.trunk = np.array(trunk)
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
class Subject:
    """A person: bone vectors (joints, 3) in metres, stance (joints, 3) in radians, tempo and reach
    as factors."""

    bones: Array
    stance: Array
    tempo: float
    reach: float


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
