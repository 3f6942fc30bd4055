"""From raw coordinates to a prepared clip: which bodies, missing frames, centring, rotation.

The rules are those of the released implementation, by which published results were made. Absence
has no mark of its own in the raw formats: a frame, a joint or a body is absent when its coordinates
sum to 0.
"""

import math
from operator import mul

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from skeletons.clips.layout import Layout

_PARALLEL = 1e-6  # below this, a vector or an angle is taken for zero


def choose_bodies(bodies: NDArray[np.float64], rule: str, number: int) -> NDArray[np.float64]:
    """The `number` bodies that a clip keeps, by the rule of its format: (M, T, V, 3) -> (number,
    T, V, 3), zeros for a missing one.

    "energy" keeps the largest; "file" keeps the first, in the order of the file.
    """
    if rule == "energy":
        return largest_bodies(bodies, number)
    chosen = np.zeros((number, *bodies.shape[1:]))
    chosen[: len(bodies)] = bodies[:number]
    return chosen


def largest_bodies(bodies: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """The `number` bodies of largest energy, larger first: (M, T, V, 3) -> (number, T, V, 3), zeros
    for a missing one.

    Energy is the sum over x, y, z of that coordinate's standard deviation over all joints of all
    frames in which the body is present. A sensor's ghost bodies (a chair, a reflection) hardly move
    or are seen only briefly.
    """
    order = [0]
    if len(bodies) > 1:
        present = bodies.sum(axis=(2, 3)) != 0
        energy = [
            np.ascontiguousarray(body[seen].reshape(-1, 3).T).std(axis=1).sum() if seen.any() else 0
            for body, seen in zip(bodies, present, strict=True)
        ]
        # reversed like the released code's, so that the later of two equal bodies comes first
        order = np.argsort(energy, kind="stable")[::-1][:number].tolist()
    chosen = np.zeros((number, *bodies.shape[1:]))
    for place, body in enumerate(order):
        chosen[place] = bodies[body]
    return chosen


def normalise(bodies: NDArray[np.float64], layout: Layout) -> NDArray[np.float32]:
    """Fill missing frames, centre on the first body's spine, turn it upright and frontal.

    (M, T, V, 3) metres in the sensor's axes -> (T, M, V, 3) metres with the first body's
    `layout.centre` at the origin of every frame and, in its first frame, `layout.up` along z and
    `layout.across` along x.
    """
    clip = np.zeros((bodies.shape[1], len(bodies), *bodies.shape[2:]), np.float32)
    moved = list(bodies.astype(np.float32))
    present = [place for place, body in enumerate(moved) if body.any()]
    for place in present:
        moved[place] = _fill(moved[place])
    spine = moved[0][:, layout.centre : layout.centre + 1]
    for place in present:
        moved[place] = _centre(moved[place], spine)
    for (start, end), axis in ((layout.up, (0.0, 0.0, 1.0)), (layout.across, (1.0, 0.0, 0.0))):
        first = moved[0][0]
        matrix = _rotation(first[end] - first[start], axis)
        for place in present:
            moved[place] = _turn(moved[place], matrix)
    for place in present:
        clip[:, place] = moved[place]
    return clip


def arrange(bodies: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bodies (M, T, V, 3) that are prepared already, as (T, M, V, 3)."""
    return rearrange(bodies, "m t v c -> t m v c").astype(np.float32)


def _fill(body: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move a late first frame to the front, then repeat the body for missing last frames: (T, V,
    3).
    """
    seen = body.sum(axis=(1, 2)) != 0
    if seen.all() or not seen.any():
        return body
    start = body[: len(seen) - int(seen[::-1].argmax())] if seen[0] else body[seen]
    return start[np.arange(len(body)) % len(start)]


def _centre(body: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """The body (T, V, 3) seen from a joint (T, 1, 3); absent joints stay zero."""
    centred = body - centre
    absent = body[..., 0] + body[..., 1] + body[..., 2] == 0
    if absent.any():
        centred[absent] = 0
    return centred


def _turn(body: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    """The body (T, V, 3) turned by a matrix, in double precision, rounded to single."""
    return (body.reshape(-1, 3) @ matrix.T).astype(np.float32).reshape(body.shape)


def _rotation(
    vector: NDArray[np.float32], target: tuple[float, float, float]
) -> NDArray[np.float64]:
    """The 3 x 3 matrix that turns `vector` to the direction of the unit vector `target` (Rodrigues'
    formula).

    No rotation for a zero vector, nor for one that is parallel or opposite to the target. The
    direction is rounded to float32 before its angle is taken, as in the released code: near 0 the
    angle is sensitive to it.
    """
    (x, y, z), (a, b, c) = vector.tolist(), target
    axis = (y * c - z * b, z * a - x * c, x * b - y * a)
    if abs(x) + abs(y) + abs(z) < _PARALLEL or sum(map(abs, axis)) < _PARALLEL:
        return np.eye(3)
    direction = (vector / np.sqrt(vector @ vector)).tolist()
    angle = math.acos(min(max(sum(map(mul, direction, target)), -1.0), 1.0))
    if angle < _PARALLEL:
        return np.eye(3)
    length = math.hypot(*axis)
    x, y, z = (part / length for part in axis)
    s, t = math.sin(angle), 1 - math.cos(angle)
    return np.array(
        [
            [1 - t * (y * y + z * z), t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, 1 - t * (x * x + z * z), t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, 1 - t * (x * x + y * y)],
        ]
    )
