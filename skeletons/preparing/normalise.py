"""From raw coordinates to a prepared clip: which bodies, missing frames, centring, rotation.

A dataset has one of two normal forms. `released` is that of the released implementation, by which
published results on NTU RGB+D and PKU-MMD were made: by the first frame and two shortest rotations,
of which the second is a turn about z only for people who face a sensor with a Kinect's axes.
`upright` holds for any sensor and any place of it. Absence has no mark of its own in the raw
formats: what is absent is zero.
"""

import math
from operator import mul
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from skeletons.archives.recordings import BrokenClip
from skeletons.clips.layout import Joints, Layout

NORMAL_FORMS = ("released", "upright")
_PARALLEL = 1e-6  # below this, a vector or an angle is taken for zero
_NARROW = 0.01  # of the trunk's length: shoulders seen along it have no direction
_ABOUT = 1.0  # metres from a body to the origin of coordinates that are relative to it


def choose_bodies(bodies: NDArray[np.float64], rule: str, number: int) -> NDArray[np.float64]:
    """The `number` bodies that a clip keeps, by the rule of its format: (M, T, V, 3) -> (number,
    T, V, 3), zeros for a missing one.

    "energy" keeps the largest; "file" keeps the first that are in any frame, in the order of the
    file.
    """
    if rule == "energy":
        return largest_bodies(bodies, number)
    present = bodies[bodies.any(axis=(1, 2, 3))][:number]
    chosen = np.zeros((number, *bodies.shape[1:]))
    chosen[: len(present)] = present
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


def normalise(
    bodies: NDArray[np.float64], layout: Layout, normal_form: str | None
) -> NDArray[np.float32]:
    """Bodies (M, T, V, 3) in metres as a clip (T, M, V, 3) in one of the `NORMAL_FORMS`, or as they
    are where that is None. Raises BrokenClip where it cannot be.
    """
    if normal_form is None:
        return rearrange(bodies, "m t v c -> t m v c").astype(np.float32)
    return (released if normal_form == "released" else upright)(bodies, layout)


def released(bodies: NDArray[np.float64], layout: Layout) -> NDArray[np.float32]:
    """Fill missing frames, centre on the first body's spine, turn it upright and frontal.

    (M, T, V, 3) metres in the sensor's axes -> (T, M, V, 3) metres with the first body's
    `layout.centre` at the origin of every frame and, in its first frame, `layout.up` along z and
    `layout.across` along x. A frame, a joint or a body is absent when its coordinates sum to 0.
    """
    clip = np.zeros((bodies.shape[1], len(bodies), *bodies.shape[2:]), np.float32)
    moved = list(bodies.astype(np.float32))
    present = [place for place, body in enumerate(moved) if body.any()]
    for place in present:
        moved[place] = _fill(moved[place])
    spine = point(moved[0], layout.centre)[:, None]
    for place in present:
        moved[place] = _centre(moved[place], spine)
    for (start, end), axis in ((layout.up, (0.0, 0.0, 1.0)), (layout.across, (1.0, 0.0, 0.0))):
        first = moved[0][0]
        matrix = _rotation(point(first, end) - point(first, start), axis)
        for place in present:
            moved[place] = _turn(moved[place], matrix)
    for place in present:
        clip[:, place] = moved[place]
    return clip


def upright(bodies: NDArray[np.float64], layout: Layout) -> NDArray[np.float32]:
    """Centre every frame on the first body, set its trunk upright and turn it about that to the
    front.

    (M, T, V, 3) metres in any right-handed axes, from any origin -> (T, M, V, 3) metres. The mean
    of the vectors of `layout.up`, over the frames that have them, points along z; the vector of
    `layout.across`, in the first frame that has it, to positive x without any y. So a clip is the
    same however the recording is turned and shifted. Frames before and after all that have a body
    are left out. What is absent stays zero, and neither moves nor turns the rest: a frame without
    the centre has that of the nearest one before, or else after.

    Raises BrokenClip where the first body never has the joints of one of these vectors together, or
    never its centre.
    """
    frames = np.flatnonzero(bodies.any(axis=(0, 2, 3)))
    bodies = bodies[:, frames[0] : frames[-1] + 1]
    there = np.stack([_there(body, layout) for body in bodies])
    trunk = _vectors(bodies[0], there[0], layout.up, layout).mean(axis=0)
    length = np.linalg.norm(trunk)
    if length < _PARALLEL:
        raise BrokenClip(f"{_both(layout, layout.up)} are at one place")
    z = trunk / length
    sides = _vectors(bodies[0], there[0], layout.across, layout)
    sides = sides - (sides @ z)[:, None] * z
    wide = np.linalg.norm(sides, axis=1) > _NARROW * length
    if not wide.any():
        raise BrokenClip(f"{_both(layout, layout.across)} are at one place, seen along the trunk")
    x = sides[wide.argmax()]
    x = x / np.linalg.norm(x)
    centre, known = _seen(bodies[0], there[0], layout.centre)
    if not known.any():
        raise BrokenClip(f"{layout.called(layout.centre)}, its centre, is in no frame")
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    centre = centre[np.where(last < 0, known.argmax(), last)]
    turned = (bodies - centre[:, None]) @ np.stack([x, np.cross(z, x), z]).T
    return normalise(np.where(there[..., None], turned, 0), layout, None)


def _there(body: NDArray[np.float64], layout: Layout) -> NDArray[np.bool_]:
    """True where a joint of a body (T, V, 3) is in a frame (T, V): where it is not zero.

    Of coordinates that are relative to one of the joints by which a clip is turned and centred,
    this joint is zero in every frame, and the body lies about it: there it is the origin.
    """
    there = np.asarray(body.any(axis=2))
    frames = there.any(axis=1)
    groups = (layout.centre, *layout.up, *layout.across)
    needed = {j for group in groups for j in ((group,) if isinstance(group, int) else group)}
    never = [joint for joint in needed if not there[:, joint].any()]
    if len(never) == 1 and frames.any():
        middle = body[frames].sum(axis=1) / there[frames].sum(axis=1)[:, None]
        there[frames, never[0]] = np.median(np.linalg.norm(middle, axis=1)) < _ABOUT
    return there


def point(body: NDArray[Any], joints: Joints) -> NDArray[Any]:
    """The place (..., 3) of a joint, or the mean of several, of a body (..., V, 3)."""
    if isinstance(joints, int):
        return body[..., joints, :]
    return np.asarray(body[..., joints, :].mean(axis=-2))


def _seen(
    body: NDArray[np.float64], there: NDArray[np.bool_], joints: Joints
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The place (T, 3) of a joint, or the mean of several, and in which frames (T,) all are."""
    several = [joints] if isinstance(joints, int) else list(joints)
    return point(body, joints), np.asarray(there[:, several].all(axis=1))


def _vectors(
    body: NDArray[np.float64],
    there: NDArray[np.bool_],
    of: tuple[Joints, Joints],
    layout: Layout,
) -> NDArray[np.float64]:
    """The vectors (F, 3) from the one to the other in the F frames that have both."""
    (start, first), (end, second) = (_seen(body, there, joints) for joints in of)
    if not (first & second).any():
        raise BrokenClip(f"{_both(layout, of)} are in no frame together")
    return (end - start)[first & second]


def _both(layout: Layout, of: tuple[Joints, Joints]) -> str:
    return " and ".join(map(layout.called, of))


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
