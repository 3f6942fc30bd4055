"""Sensors: the joints that each delivers, a YAML file of this folder each.

A file of one's own beside them is a sensor under its name. It has

    bodies   how many people a prepared clip has at most
    joints   the names of the joints, in the order of recordings; those that begin with `left` and
             `right` are pairs, which a flip exchanges
    bones    {joint: parent}, one tree of all joints
    centre   where a prepared clip has its origin: a joint, or a list of joints, of which the mean
    up       two of these: the ends of the trunk, from the hips to the shoulders
    across   two of these: the left and the right shoulder
    rest     {joint: [x, y, z]} in metres, optional: the pose from which synthetic people move
    released_up  instead of `up` in the released code's normal form, optional

A store carries its layout, so that training depends on no file of this folder.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from errors import UserError
from skeletons.clips.layout import Joints, Layout

_FOLDER = Path(__file__).parent
_KEYS = {"bodies", "joints", "bones", "centre", "up", "across"}
_OPTIONAL = {"rest", "released_up"}


def names() -> list[str]:
    """The names of the sensors that have a file, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


@cache
def layout(name: str, *, released: bool = False, bodies: int | None = None) -> Layout:
    """The layout of a sensor's joints: for the released code's normal form, if `released`, and of
    so many `bodies` a clip instead of its own.

    Raises UserError, with the file and the key, for a file that is not as above.
    """
    path = _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"there is no sensor {name!r}, allowed: {', '.join(names())}")
    try:
        found = YAML(typ="safe", pure=True).load(path)
    except YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return _layout(name, found, released, bodies)
    except UserError as error:
        raise UserError(f"skeletons/sensors/{path.name}: {error}") from None


def _layout(name: str, found: Any, released: bool, bodies: int | None) -> Layout:
    """The layout of a file's content; UserError names the key at fault."""
    keys = set(found) if isinstance(found, dict) else set()
    if lacking := sorted(_KEYS - keys):
        raise UserError(f"lacks {', '.join(lacking)}")
    if unknown := sorted(map(str, keys - _KEYS - _OPTIONAL)):
        raise UserError(f"{unknown[0]} is unknown, allowed: {', '.join(sorted(_KEYS | _OPTIONAL))}")
    if released and "released_up" not in found:
        raise UserError("has no released_up, which normal_form: released needs; set upright")
    joints = found["joints"]
    if not isinstance(joints, list) or not all(isinstance(joint, str) for joint in joints):
        raise UserError("joints is no list of names")
    if twice := [joint for joint in joints if joints.count(joint) > 1]:
        raise UserError(f"joints has {twice[0]!r} {joints.count(twice[0])} times")
    count = bodies or found["bodies"]
    if type(count) is not int or not 1 <= count <= 2:
        raise UserError(f"bodies is {count!r}, allowed: 1 or 2")
    number = {joint: index for index, joint in enumerate(joints)}
    swap = tuple(number[_mirrored(joint, number)] for joint in joints)
    up, across = (_two(key, found[key], number) for key in ("up", "across"))
    if released:
        up = _two("released_up", found["released_up"], number)
    return Layout(
        name=name,
        joints=len(joints),
        bodies=count,
        bones=_bones(found["bones"], number),
        swap=swap,
        centre=_joints("centre", found["centre"], number),
        up=up,
        across=across,
        rest=_rest(found.get("rest", {}), number),
        names=tuple(joints),
    )


def _mirrored(joint: str, number: Mapping[str, int]) -> str:
    """The joint of the other side, or the joint itself in the middle."""
    for own, other in (("left ", "right "), ("right ", "left ")):
        if joint.startswith(own):
            mirrored = other + joint.removeprefix(own)
            if mirrored not in number:
                raise UserError(f"joints has {joint!r} and no {mirrored!r}")
            return mirrored
    return joint


def _bones(found: Any, number: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """The bones (joint, parent); UserError unless they are one tree of all joints."""
    if not isinstance(found, dict):
        raise UserError("bones is no mapping of a joint to its parent")
    for joint in (*found, *found.values()):
        _joints("bones", joint, number)
    roots = [joint for joint in number if joint not in found]
    if len(roots) != 1:
        raise UserError(
            f"bones is no tree: {', '.join(roots) or 'no joint'} without a parent, allowed: one"
        )
    for joint in found:
        above = joint
        for _ in number:
            above = found.get(above, above)
        if above != roots[0]:
            raise UserError(f"bones is no tree: the parents of {joint!r} go round in a circle")
    return tuple((number[joint], number[parent]) for joint, parent in found.items())


def _joints(key: str, found: Any, number: Mapping[str, int]) -> Joints:
    """A joint, or several, by their numbers."""
    if isinstance(found, list) and found:
        return tuple(number[_known(key, joint, number)] for joint in found)
    return number[_known(key, found, number)]


def _known(key: str, joint: Any, number: Mapping[str, int]) -> str:
    if not isinstance(joint, str) or joint not in number:
        raise UserError(f"{key} has {joint!r}, which is no name under joints")
    return joint


def _two(key: str, found: Any, number: Mapping[str, int]) -> tuple[Joints, Joints]:
    if not isinstance(found, list) or len(found) != 2:
        raise UserError(f"{key} is {found!r}, allowed: a list of two joints, or lists of joints")
    start, end = (_joints(key, one, number) for one in found)
    return start, end


def _rest(
    found: Any, number: Mapping[str, int]
) -> tuple[tuple[int, tuple[float, float, float]], ...]:
    """The rest pose, as `Layout` has it."""
    places = []
    for joint, place in found.items() if isinstance(found, dict) else ():
        if not isinstance(place, list) or len(place) != 3:
            raise UserError(f"rest has {place!r} for {joint!r}, allowed: x, y and z in metres")
        x, y, z = place
        places.append((number[_known("rest", joint, number)], (x, y, z)))
    return tuple(places)
