"""From raw coordinates to a prepared clip: golden arrays, and the rules restated one by one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KINECT_V2

from skeletons.formats import ntu
from skeletons.preparing.normalise import choose_bodies, largest_bodies, released

KINECT = KINECT_V2
GOLDEN = Path(__file__).parent / "golden"
REAL = Path(__file__).parents[2] / "shared" / "real" / "ntu"


def clips(arrays: Path, folder: Path):
    """The prepared clips of a golden file and the raw files that they come from."""
    if not folder.is_dir():
        return [pytest.param("", None, marks=pytest.mark.skip(f"no {folder}"))]
    with np.load(arrays) as golden:
        names = [name for name in golden.files if "/" not in name]
        return [
            pytest.param(folder / f"{name}.skeleton", golden[name], id=f"{folder.name}-{name}")
            for name in names
        ]


@pytest.mark.parametrize(
    ("raw", "golden"),
    clips(GOLDEN / "prepared_edge.npz", GOLDEN / "edge") + clips(GOLDEN / "prepared.npz", REAL),
)
def test_prepared_clips_are_those_of_the_released_code(raw, golden):
    bodies = largest_bodies(ntu.parse(raw.read_bytes(), joints=KINECT.joints), KINECT.bodies)
    prepared = released(bodies, KINECT)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, golden, rtol=0, atol=1e-5)


def naive(bodies, layout=KINECT):
    """The rules one by one, a frame and a joint at a time."""
    energies = []
    for body in bodies:
        frames = [frame for frame in body if frame.sum() != 0]
        energy = 0.0
        for axis in range(3) if frames else ():
            values = [joint[axis] for frame in frames for joint in frame]
            mean = sum(values) / len(values)
            energy += (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        energies.append(energy)
    order = sorted(range(len(bodies)), key=lambda m: (energies[m], m), reverse=True)
    clip = [[frame.astype(np.float32) for frame in bodies[m]] for m in order[: layout.bodies]]
    length, joints = len(bodies[0]), bodies.shape[2]
    while len(clip) < layout.bodies:
        clip.append([np.zeros((joints, 3), np.float32)] * length)

    for m in range(layout.bodies):
        empty = np.zeros((joints, 3), np.float32)
        if clip[m][0].sum() == 0:
            seen = [frame for frame in clip[m] if frame.sum() != 0]
            clip[m] = seen + [empty] * (length - len(seen))
        last = length
        while last > 0 and clip[m][last - 1].sum() == 0:
            last -= 1
        if last:
            clip[m] = [clip[m][t % last] if t >= last else clip[m][t] for t in range(length)]

    centred = np.zeros((length, layout.bodies, joints, 3), np.float32)
    for t in range(length):
        for m in range(layout.bodies):
            for j in range(joints):
                if clip[m][t][j].sum() != 0:
                    centred[t, m, j] = clip[m][t][j] - clip[0][t][layout.centre]

    for (start, end), target in ((layout.up, [0, 0, 1]), (layout.across, [1, 0, 0])):
        vector = (centred[0, 0, end] - centred[0, 0, start]).astype(np.float64)
        axis = np.cross(vector, target)
        if np.abs(axis).sum() < 1e-6:
            continue
        axis /= np.linalg.norm(axis)
        angle = np.arccos(np.dot(vector / np.linalg.norm(vector), target))
        for t in range(length):
            for m in range(layout.bodies):
                for j in range(joints):
                    x = centred[t, m, j].astype(np.float64)
                    # Rodrigues' rotation of a vector
                    centred[t, m, j] = (
                        x * np.cos(angle)
                        + np.cross(axis, x) * np.sin(angle)
                        + axis * np.dot(axis, x) * (1 - np.cos(angle))
                    )
    return centred


@st.composite
def raw_bodies(draw):
    """A few frames of 1 to 4 bodies, with frames and joints missing anywhere."""
    bodies, length = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (bodies, length, KINECT.joints, 3)
    raw = random.normal(size=shape) * random.uniform(0.1, 1, size=(bodies, 1, 1, 1)) + [0.1, 0.2, 3]
    gone = draw(st.lists(st.booleans(), min_size=bodies * length, max_size=bodies * length))
    raw[np.array(gone).reshape(bodies, length)] = 0
    raw[random.random(shape[:3]) < draw(st.sampled_from([0, 0.05]))] = 0
    return raw


@settings(max_examples=60, deadline=None)
@given(raw_bodies())
def test_prepared_clips_follow_the_rules_one_by_one(raw):
    np.testing.assert_allclose(
        released(largest_bodies(raw, 2), KINECT), naive(raw), rtol=0, atol=2e-5
    )


def test_bodies_are_chosen_by_the_rule_of_the_format():
    bodies = np.random.default_rng(0).normal(size=(3, 4, KINECT.joints, 3)) * [
        [[[1]]],
        [[[3]]],
        [[[2]]],
    ]
    assert np.array_equal(choose_bodies(bodies, "energy", 2), bodies[[1, 2]])
    assert np.array_equal(choose_bodies(bodies[:2], "file", 2), bodies[:2])
    alone = choose_bodies(bodies[:1], "file", 2)
    assert np.array_equal(alone, [bodies[0], np.zeros_like(bodies[0])])


def test_the_first_frame_stands_upright_and_faces_the_front():
    raw = np.random.default_rng(0).normal(size=(1, 5, KINECT.joints, 3))
    first = released(largest_bodies(raw, 2), KINECT)[0, 0]
    across = first[KINECT.across[1]] - first[KINECT.across[0]]
    np.testing.assert_allclose(first[KINECT.centre], 0, atol=1e-6)
    np.testing.assert_allclose(across / np.linalg.norm(across), [1, 0, 0], atol=1e-3)


def test_a_body_already_upright_is_not_turned():
    raw = np.zeros((2, 1, KINECT.joints, 3))
    raw[0, 0, :, :] = np.arange(KINECT.joints)[:, None] * [0.0, 0.0, 0.25] + [1, 1, 1]
    raw[0, 0, KINECT.across[1]] = raw[0, 0, KINECT.across[0]] + [0.5, 0, 0]
    np.testing.assert_allclose(
        released(raw, KINECT)[0, 0], raw[0, 0] - raw[0, 0, KINECT.centre], atol=1e-6
    )
