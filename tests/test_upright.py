"""The upright normal form: one clip, however a recording is turned, shifted or incomplete."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from skeletons import sensors
from skeletons.archives.recordings import BrokenClip
from skeletons.clips.layout import Layout
from skeletons.preparing.normalise import choose_bodies, upright

Array = NDArray[np.float64]
V1 = sensors.layout("kinect-v1")
MEDIAPIPE = sensors.layout("mediapipe")
HIP, SPINE, SHOULDERS, LEFT, RIGHT = 0, 1, 2, 4, 8
FRAMES = 12
TOLERANCE = 1e-5  # metres


def people(layout: Layout, bodies: int = 1, seed: int = 0) -> Array:
    """Bodies (M, T, V, 3) whose trunks sway about the vertical, z, 3 m from the origin."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.3, (bodies, 1, layout.joints, 3))
    for joints, place in (
        *zip(layout.up, ((0, 0, 0), (0.02, 0.03, 0.5)), strict=True),
        *zip(layout.across, ((-0.2, 0.05, 0.45), (0.2, -0.05, 0.45)), strict=True),
    ):
        pose[:, :, joints] = place
    moved = pose + rng.normal(0, 0.03, (bodies, FRAMES, layout.joints, 3))
    apart = 0.8 * np.arange(bodies)[:, None, None, None] * [1.0, 0.5, 0.0]
    return np.asarray(moved + apart + [0.3, 3.0, 1.0])


def rotation(quaternion: Array) -> Array:
    """The rotation matrix of a quaternion of any length."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(
    lambda q: np.linalg.norm(q) > 0.1
)
shifts = arrays(np.float64, 3, elements=st.floats(-20, 20))


@pytest.mark.parametrize("layout", [V1, MEDIAPIPE], ids=lambda layout: layout.name)
@given(quaternion=quaternions, shift=shifts)
@settings(max_examples=60, deadline=None)
def test_turned_and_shifted_it_is_the_same(layout: Layout, quaternion: Array, shift: Array) -> None:
    bodies = people(layout, 2)
    moved = bodies @ rotation(quaternion).T + shift
    np.testing.assert_allclose(
        upright(moved, layout), upright(bodies, layout), rtol=0, atol=TOLERANCE
    )


def test_the_trunk_is_upright_and_the_shoulders_are_across() -> None:
    clip = upright(people(V1), V1)
    body = clip[:, 0].astype(np.float64)
    assert clip.shape == (FRAMES, 1, 20, 3)
    np.testing.assert_array_equal(body[:, SPINE], 0)
    trunk = (body[:, SHOULDERS] - body[:, HIP]).mean(axis=0)
    np.testing.assert_allclose(trunk[:2], 0, atol=1e-6)
    assert trunk[2] > 0.4
    x, y, _ = body[0, RIGHT] - body[0, LEFT]
    assert x > 0.3
    assert abs(y) < 1e-6


def test_distances_stay() -> None:
    bodies = people(V1, 2)
    clip = upright(bodies, V1).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(
        np.linalg.norm(clip[1] - clip[0], axis=-1),
        np.linalg.norm(bodies[1] - bodies[0], axis=-1),
        atol=TOLERANCE,
    )


@pytest.mark.parametrize("origin", [HIP, SPINE, SHOULDERS, LEFT, "mean"])
def test_coordinates_relative_to_a_joint_or_the_mean_give_the_same_clip(origin: int | str) -> None:
    bodies = people(V1)
    away = bodies.mean(axis=2, keepdims=True) if origin == "mean" else bodies[:, :, [origin]]
    np.testing.assert_allclose(
        upright(bodies - away, V1), upright(bodies, V1), rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("joint", [HIP, SHOULDERS, LEFT, RIGHT])
def test_a_joint_that_is_absent_at_first_turns_nothing(joint: int) -> None:
    """The trunk is the mean without this frame, or the shoulders are those of the second."""
    bodies = people(V1)
    bodies[:, 0, joint] = 0
    body, trunk = bodies[0], slice(int(joint in (HIP, SHOULDERS)), None)
    z = (body[trunk, SHOULDERS] - body[trunk, HIP]).mean(axis=0)
    z /= np.linalg.norm(z)
    across = int(joint in (LEFT, RIGHT))
    y = np.cross(z, body[across, RIGHT] - body[across, LEFT])
    y /= np.linalg.norm(y)
    expected = (body - body[:, [SPINE]]) @ np.stack([np.cross(y, z), y, z]).T
    expected[0, joint] = 0
    np.testing.assert_allclose(upright(bodies, V1)[:, 0], expected, rtol=0, atol=TOLERANCE)


def test_a_frame_without_the_centre_is_where_the_one_before_is() -> None:
    bodies = people(V1)
    bodies[:] = bodies[:, :1]  # who stands still
    lacking = bodies.copy()
    lacking[:, [0, 5, 6], SPINE] = 0
    expected = upright(bodies, V1)
    np.testing.assert_allclose(upright(lacking, V1), expected, rtol=0, atol=TOLERANCE)


def test_the_first_body_that_is_there_is_the_first_whatever_its_place() -> None:
    bodies = people(V1)
    late = np.concatenate([np.zeros_like(bodies), bodies])
    np.testing.assert_array_equal(
        upright(choose_bodies(late, "file", 2), V1), upright(choose_bodies(bodies, "file", 2), V1)
    )


def test_frames_without_anybody_are_left_out_at_both_ends_alone() -> None:
    bodies = people(V1, 2)
    bodies[:, :3] = bodies[:, -2:] = bodies[:, 5] = bodies[1, 6] = 0
    clip = upright(bodies, V1)
    assert len(clip) == FRAMES - 5
    assert not clip[2].any()
    assert clip[3, 0].any()
    assert not clip[3, 1].any()


@pytest.mark.parametrize(
    ("absent", "reason"),
    [
        ([HIP], "hip centre and shoulder centre are in no frame together"),
        ([RIGHT], "left shoulder and right shoulder are in no frame together"),
        ([SPINE], "spine, its centre, is in no frame"),
    ],
)
def test_a_clip_without_the_needed_joints_is_broken(absent: list[int], reason: str) -> None:
    bodies = people(V1)
    bodies[:, :, absent] = 0
    with pytest.raises(BrokenClip) as broken:
        upright(bodies, V1)
    assert broken.value.reason == reason


def test_shoulders_along_the_trunk_have_no_direction() -> None:
    bodies = people(V1)
    trunk = (bodies[0, :, SHOULDERS] - bodies[0, :, HIP]).mean(axis=0)
    bodies[:, :, RIGHT] = bodies[:, :, LEFT] + trunk
    with pytest.raises(BrokenClip, match="left shoulder and right shoulder are at one place"):
        upright(bodies, V1)
