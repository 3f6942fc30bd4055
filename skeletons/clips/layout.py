"""A joint layout: the skeleton that a sensor delivers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from errors import UserError

Joints = int | tuple[int, ...]  # a joint, or several, of which the mean is meant


@dataclass(frozen=True)
class Layout:
    """The joints of one sensor, all indices 0-based, and how many `bodies` a prepared clip has.

    `bones` are (joint, parent) pairs, one for each joint but the root. `swap[j]` is the joint that
    a left-right flip puts at `j`. A prepared clip is centred on `centre` and turned so that, for
    body 0, the vector between the two of `up` lies along z and the one between the two of `across`
    along x (`skeletons.preparing.normalise` says of which frames). `names` are for messages.

    `rest` is the pose from which synthetic bodies move, (joint, position) in metres: x from the
    body's left to its right, y up from the floor, z to its back (a Kinect's axes for a body that
    faces it). It has the joints of the middle and of one side; the other side is the mirror image.
    Elbows, knees and ankles are a little bent: that bend is the one in which they move. A layout
    of which there are no synthetic recordings needs none.
    """

    name: str
    joints: int
    bodies: int
    bones: tuple[tuple[int, int], ...]
    swap: tuple[int, ...]
    centre: Joints
    up: tuple[Joints, Joints]
    across: tuple[Joints, Joints]
    rest: tuple[tuple[int, tuple[float, float, float]], ...] = ()
    names: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint; the root is its own."""
        parent = dict(self.bones)
        return tuple(parent.get(joint, joint) for joint in range(self.joints))

    def carried(self) -> dict[str, Any]:
        """The layout as stores and exported encoders carry it: all but what is for people."""
        return {k: value for k, value in asdict(self).items() if k not in ("rest", "names")}

    def called(self, joints: Joints) -> str:
        """A joint, or several, by their names; by their numbers where the layout has none."""
        several = (joints,) if isinstance(joints, int) else joints
        names = self.names or [f"joint {joint}" for joint in range(self.joints)]
        return " and ".join(names[joint] for joint in several)

    def order_of(self, joints: Sequence[int | str | None]) -> list[int]:
        """Return the index that brings recordings into the layout's order of joints. `joints` are
        theirs, in their order, by number or name (None: no joint of the layout).

        Raises UserError unless each joint of the layout is there once, and no other.
        """
        allowed = f"allowed: names, or 0 to {self.joints - 1}, each once, and null"
        number: dict[int | str, int] = dict(zip(self.names, range(self.joints), strict=False))
        number |= {joint: joint for joint in range(self.joints)}
        known = {str(joint) for joint in number}
        if unknown := [joint for joint in joints if joint is not None and str(joint) not in known]:
            raise UserError(f"{self.name} has no joint {unknown[0]!r}, {allowed}")
        found = [None if joint is None else number[joint] for joint in joints]
        for joint in range(self.joints):
            if (count := found.count(joint)) != 1:
                called = self.called(joint)
                raise UserError(f"{called} of {self.name} is there {count} times, {allowed}")
        return [found.index(joint) for joint in range(self.joints)]
