"""Joint layouts: one tree of bones, which a flip maps onto itself."""

import pytest

from skeletons.clips.layout import Layout
from skeletons.sensors import KINECT_V1, LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_bones_are_a_tree(layout: Layout) -> None:
    parents = layout.parents
    assert len(parents) == layout.joints == len(layout.bones) + 1
    (root,) = (joint for joint, parent in enumerate(parents) if joint == parent)
    for joint in range(layout.joints):
        for _ in range(layout.joints):
            joint = parents[joint]
        assert joint == root


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_flip_exchanges_two_sides_of_one_body(layout: Layout) -> None:
    swap = layout.swap
    assert [swap[joint] for joint in swap] == list(range(layout.joints))
    assert {(swap[joint], swap[parent]) for joint, parent in layout.bones} == set(layout.bones)
    assert all(swap[joint] == joint for joint in (layout.centre, *layout.up))
    assert swap[layout.across[0]] == layout.across[1] != layout.across[0]


def test_kinect_v1_is_the_list_of_its_joints() -> None:
    """Bones (joint, parent) counted from 1, as the sensor's documentation does."""
    bones = (
        (1, 2), (2, 3), (4, 3),
        (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10), (12, 11),
        (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19),
    )  # fmt: skip
    assert {(joint + 1, parent + 1) for joint, parent in KINECT_V1.bones} == set(bones)
    sides = [range(5, 9), range(9, 13), range(13, 17), range(17, 21)]
    for left, right in (sides[:2], sides[2:]):
        assert [KINECT_V1.swap[joint - 1] + 1 for joint in left] == list(right)
