"""Joint layouts: the skeleton that a sensor delivers, and the one place that knows its joints."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """The joints of one sensor, all indices 0-based, and how many `bodies` a prepared clip has.

    `bones` are (joint, parent) pairs, one for each joint but the root. `swap[j]` is the joint that
    a left-right flip puts at `j`. A prepared clip is centred on `centre` and turned so that, in the
    first frame of body 0, the vector between the joints of `up` lies along z and the one between
    the joints of `across` along x.

    `rest` is the pose from which made-up bodies move, (joint, position) in metres: x from the
    body's left to its right, y up from the floor, z to its back (a Kinect's axes for a body that
    faces it). It has the joints of the middle and of one side; the other side is the mirror image.
    Elbows, knees and ankles are a little bent: that bend is the one in which they move.
    """

    name: str
    joints: int
    bodies: int
    bones: tuple[tuple[int, int], ...]
    swap: tuple[int, ...]
    centre: int
    up: tuple[int, int]
    across: tuple[int, int]
    rest: tuple[tuple[int, tuple[float, float, float]], ...]

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint; the root is its own."""
        parent = dict(self.bones)
        return tuple(parent.get(joint, joint) for joint in range(self.joints))


# NTU RGB+D (Shahroudy et al., CVPR 2016, figure 2) and PKU-MMD number the joints of Kinect v2
# alike.
KINECT_V2 = Layout(
    name="kinect-v2",
    joints=25,
    bodies=2,
    bones=(
        *((0, 1), (1, 20), (2, 20), (3, 2)),
        *((4, 20), (5, 4), (6, 5), (7, 6), (21, 22), (22, 7)),
        *((8, 20), (9, 8), (10, 9), (11, 10), (23, 24), (24, 11)),
        *((12, 0), (13, 12), (14, 13), (15, 14)),
        *((16, 0), (17, 16), (18, 17), (19, 18)),
    ),
    swap=(
        *(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7),
        *(16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22),
    ),
    centre=1,
    up=(0, 1),
    across=(4, 8),
    rest=(
        *((0, (0, 0.93, 0)), (1, (0, 1.24, 0)), (20, (0, 1.48, 0.01)), (2, (0, 1.55, 0))),
        *((3, (0, 1.70, -0.02)), (4, (-0.17, 1.42, 0.01)), (5, (-0.22, 1.14, 0.03))),
        *((6, (-0.23, 0.90, -0.04)), (7, (-0.23, 0.82, -0.07)), (22, (-0.20, 0.80, -0.11))),
        *((21, (-0.23, 0.74, -0.11)), (12, (-0.08, 0.90, 0)), (13, (-0.10, 0.48, -0.03))),
        *((14, (-0.10, 0.09, 0.02)), (15, (-0.12, 0.03, -0.09))),
    ),
)

# Kinect v1, in the order of its SDK: hip centre, spine, shoulder centre, head, then left arm, right
# arm, left leg and right leg, four joints each from the body outwards. NW-UCLA (Wang et al., CVPR
# 2014) has them, of one person.
KINECT_V1 = Layout(
    name="kinect-v1",
    joints=20,
    bodies=1,
    bones=(
        *((0, 1), (1, 2), (3, 2)),
        *((4, 2), (5, 4), (6, 5), (7, 6)),
        *((8, 2), (9, 8), (10, 9), (11, 10)),
        *((12, 0), (13, 12), (14, 13), (15, 14)),
        *((16, 0), (17, 16), (18, 17), (19, 18)),
    ),
    swap=(
        *(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7),
        *(16, 17, 18, 19, 12, 13, 14, 15),
    ),
    centre=1,
    up=(0, 1),
    across=(4, 8),
    rest=(
        *((0, (0, 0.93, 0)), (1, (0, 1.00, 0)), (2, (0, 1.48, 0.01)), (3, (0, 1.70, -0.02))),
        *((4, (-0.17, 1.42, 0.01)), (5, (-0.22, 1.14, 0.03)), (6, (-0.23, 0.90, -0.04))),
        *((7, (-0.23, 0.82, -0.07)), (12, (-0.08, 0.90, 0)), (13, (-0.10, 0.48, -0.03))),
        *((14, (-0.10, 0.09, 0.02)), (15, (-0.12, 0.03, -0.09))),
    ),
)

LAYOUTS = {layout.name: layout for layout in (KINECT_V2, KINECT_V1)}
