"""Sensors: one tree of bones, which a flip maps onto itself; files that are none are refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from layouts import KINECT_V1, KINECT_V2
from test_pages import blocks

from errors import UserError
from skeletons import sensors
from skeletons.clips.layout import Joints, Layout
from skeletons.formats import msraction3d

SENSORS = sensors.names()


def several(joints: Joints) -> set[int]:
    """The joints of one place."""
    return {joints} if isinstance(joints, int) else set(joints)


@pytest.mark.parametrize("name", SENSORS)
def test_bones_are_a_tree(name: str) -> None:
    layout = sensors.layout(name)
    parents = layout.parents
    assert len(parents) == layout.joints == len(layout.bones) + 1
    (root,) = (joint for joint, parent in enumerate(parents) if joint == parent)
    for joint in range(layout.joints):
        for _ in range(layout.joints):
            joint = parents[joint]
        assert joint == root


@pytest.mark.parametrize("name", SENSORS)
def test_a_flip_exchanges_two_sides_of_one_body(name: str) -> None:
    layout = sensors.layout(name)
    swap = layout.swap
    assert [swap[joint] for joint in swap] == list(range(layout.joints))
    assert {(swap[joint], swap[parent]) for joint, parent in layout.bones} == set(layout.bones)
    for joints in (layout.centre, *layout.up):
        assert {swap[joint] for joint in several(joints)} == several(joints)
    left, right = layout.across
    assert {swap[joint] for joint in several(left)} == several(right) != several(left)


def test_the_sensors_that_come_with_the_project() -> None:
    sizes = {name: sensors.layout(name).joints for name in SENSORS}
    assert sizes == {
        "azure-kinect": 32,
        "h36m": 17,
        "kinect-v1": 20,
        "kinect-v2": 25,
        "mediapipe": 33,
        "openni-15": 15,
        "smpl": 22,
    }


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


def test_the_released_form_turns_by_the_short_bone_and_a_dataset_may_keep_another_number() -> None:
    assert KINECT_V2.up == (0, 1)
    assert sensors.layout("kinect-v2").up == (0, 20)
    assert sensors.layout("kinect-v1", bodies=2).bodies == 2
    with pytest.raises(UserError, match=r"smpl\.yaml: has no released_up"):
        sensors.layout("smpl", released=True)


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "lacks": ({"across": None}, "across is None, allowed: a list of two joints"),
    "unknown key": ({"sides": []}, "sides is unknown, allowed: across, bodies"),
    "no names": ({"joints": 20}, "joints is no list of names"),
    "a number": ({"joints": ["hip", 3]}, "joints is no list of names"),
    "twice": ({"joints": ["hip", "hip"]}, "joints has 'hip' 2 times"),
    "no other side": ({"joints": ["hip", "left hand"]}, "has 'left hand' and no 'right hand'"),
    "bodies": ({"bodies": 3}, "bodies is 3, allowed: 1 or 2"),
    "no tree": ({"bones": {"head": "neck"}}, "bones is no tree: hip, neck"),
    "a circle": (
        {"bones": {"neck": "head", "head": "neck", "left arm": "hip", "right arm": "hip"}},
        "bones is no tree: the parents of 'head' go round in a circle",
    ),
    "no joint": ({"bones": {"knee": "hip"}}, "bones has 'knee', which is no name under joints"),
    "no centre": ({"centre": "chest"}, "centre has 'chest', which is no name under joints"),
    "one end": ({"up": ["hip"]}, "up is ['hip'], allowed: a list of two joints"),
}
MINE = {
    "bodies": 1,
    "joints": ["hip", "neck", "head", "left arm", "right arm"],
    "bones": {"neck": "hip", "head": "neck", "left arm": "neck", "right arm": "neck"},
    "centre": "hip",
    "up": ["hip", "neck"],
    "across": ["left arm", "right arm"],
}


def own(folder: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The layout of a sensor of one's own."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(MINE | changed))
    monkeypatch.setattr(sensors, "_FOLDER", folder)
    sensors.layout.cache_clear()
    return sensors.layout("mine")


def test_a_file_is_a_sensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = own(tmp_path, {"centre": ["left arm", "right arm"]}, monkeypatch)
    assert layout.names == tuple(MINE["joints"])
    assert (layout.parents, layout.swap) == ((0, 0, 1, 1, 1), (0, 1, 2, 4, 3))
    assert layout.centre == (3, 4)
    assert layout.order_of(["head", None, "hip", 1, 3, "right arm"]) == [2, 3, 0, 4, 5]


def test_the_sensor_and_the_order_of_joints_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = blocks("docs/bring.md", "yaml")
    described = yaml.safe_load(dict(page)["file=skeletons/sensors/coco.yaml"])
    layout = own(tmp_path, described, monkeypatch)
    assert layout.names == tuple(described["joints"])
    assert layout.swap == (0, *(joint + 1 - 2 * (joint % 2 == 0) for joint in range(1, 17)))
    (listed,) = [text for _, text in page if text.startswith("archives:\n  joints:")]
    joints = yaml.safe_load(listed)["archives"]["joints"]
    assert KINECT_V1.order_of(joints) == list(msraction3d.JOINTS)


@pytest.mark.parametrize(("changed", "message"), FAULTS.values(), ids=FAULTS)
def test_what_is_no_sensor_is_refused(
    changed: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as refused:
        own(tmp_path, changed, monkeypatch)
    assert str(refused.value).startswith("skeletons/sensors/mine.yaml: ")
    assert message in str(refused.value)
