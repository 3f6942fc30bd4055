"""A joint layout: the skeleton that a sensor delivers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The joints of one sensor, all indices 0-based, and how many `bodies` a prepared clip has.

    `bones` are (joint, parent) pairs, one for each joint but the root. `swap[j]` is the joint that
    a left-right flip puts at `j`. A prepared clip is centred on `centre` and turned so that, in the
    first frame of body 0, the vector between the joints of `up` lies along z and the one between
    the joints of `across` along x.

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
    centre: int
    up: tuple[int, int]
    across: tuple[int, int]
    rest: tuple[tuple[int, tuple[float, float, float]], ...] = ()

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint; the root is its own."""
        parent = dict(self.bones)
        return tuple(parent.get(joint, joint) for joint in range(self.joints))
