"""Views against golden arrays and against naive versions that take one clip at a time."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layouts import KINECT_V2
from torch import Tensor

from learning.probing.features import evaluation_view
from learning.training.augment import (
    Augmentations,
    Crop,
    DropAxis,
    Flip,
    Rotate,
    Scale,
    Shear,
    SpatialMask,
    TemporalMask,
    Turn,
    motion,
)
from learning.training.device_clips import DeviceClips
from learning.training.randomness import uniforms
from learning.training.settings import SPATIAL_MASKS, STREAMS, TEMPORAL_MASKS
from learning.training.views import (
    View,
    as_stream,
    crop_resize,
    training_view,
)
from model.network.graph_convolution import adjacency

LAYOUT = KINECT_V2
PARENTS, SWAP, JOINTS = LAYOUT.parents, LAYOUT.swap, LAYOUT.joints
GOLDEN = Path(__file__).parent / "golden" / "prepared.npz"
SIZE = 64
LENGTHS = (1, 2, 30, 63, 64, 65, 103, 150, 300, 40, 77, 120)


def packed(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> DeviceClips:
    """Random clips one after another."""
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    generator = torch.Generator().manual_seed(seed)
    return of(torch.randn(int(offsets[-1]), 2, JOINTS, 3, generator=generator), offsets)


def of(frames: Tensor, offsets: Tensor) -> DeviceClips:
    return DeviceClips(
        frames=frames,
        offsets=offsets,
        labels=torch.zeros(len(offsets) - 1, dtype=torch.int64),
        classes=1,
        layout=LAYOUT,
        device=frames.device,
    )


def only(**given: Any) -> Augmentations:
    """The given augmentations, all others switched off."""
    off = {name: type(getattr(PAPER, name))(probability=0) for name in NAMES[1:]}
    return Augmentations(**{"crop": Crop(scale_min=1, scale_max=1), **off, **given})


def make_views(
    clips: DeviceClips,
    indices: Tensor,
    augmentations: Augmentations | None = None,
    *,
    stream: str = "joint",
    view: int | Tensor = 1,
) -> View:
    """A training view, by default with all augmentations switched off."""
    return training_view(
        clips,
        indices,
        size=SIZE,
        stream=stream,
        augmentations=augmentations or only(),
        seed=7,
        epoch=3,
        view=view,
    )


def without_masks(augmentations: Augmentations) -> Augmentations:
    masks = SpatialMask(probability=0), replace(augmentations.temporal_mask, probability=0)
    return replace(augmentations, spatial_mask=masks[0], temporal_mask=masks[1])


PAPER = Augmentations()
NAMES = [field.name for field in fields(Augmentations)]
EVERY = Augmentations(
    spatial_mask=SpatialMask(weight=0.5),
    temporal_mask=TemporalMask(kind="energy", weight=0.25),
    turn=Turn(probability=0.5, tilt=30),
    scale=Scale(probability=0.5),
    drop_axis=DropAxis(probability=0.5),
)


# ---- Crop, resize, stream ------------------------------------------------------------------------


def interpolate(clip: Tensor, size: int) -> Tensor:
    """One clip (n, M, V, 3) resized by torch, as (3, size, V, M)."""
    flat = clip.reshape(1, len(clip), -1).transpose(1, 2)
    resized = F.interpolate(flat, size=size, mode="linear", align_corners=False)
    return resized[0].T.reshape(size, *clip.shape[1:]).permute(3, 0, 2, 1)


@pytest.mark.parametrize("size", [1, 16, 64])
def test_crop_resize_is_interpolate_of_each_crop(size: int) -> None:
    frames = packed((400,)).frames
    start = torch.tensor([0, 399, 10, 11, 12, 100, 90, 0])
    length = torch.tensor([1, 1, 2, 63, 64, 65, 300, 400])
    views = crop_resize(frames, start, length, size)
    assert views.shape == (8, 3, size, JOINTS, 2)
    for view, s, n in zip(views, start.tolist(), length.tolist(), strict=True):
        torch.testing.assert_close(view, interpolate(frames[s : s + n], size), rtol=0, atol=1e-5)


def test_evaluation_view_equals_the_released_code() -> None:
    golden = np.load(GOLDEN)
    names = [name for name in golden if not name.startswith("crop95/")]
    clips = [torch.from_numpy(golden[name]) for name in names]
    offsets = torch.tensor([0, *np.cumsum([len(clip) for clip in clips])])
    views = evaluation_view(
        of(torch.cat(clips), offsets), torch.arange(len(clips)), size=SIZE, stream="joint"
    )
    for view, name in zip(views, names, strict=True):
        np.testing.assert_allclose(view, golden[f"crop95/{name}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("centre_crop", [0.95, 0.9, 0.5, 1.0])
def test_evaluation_view_starts_where_python_arithmetic_does(centre_crop: float) -> None:
    counts = range(1, 301)
    offsets = torch.tensor([0, *np.cumsum(counts)])
    # Each frame holds its own number within its clip, so the mean of a one-frame view is the
    # centre of the crop, and the first frame of a long view is its start.
    rows = torch.cat([torch.arange(n) for n in counts]).float()
    frames = rows[:, None, None, None].expand(-1, 2, JOINTS, 3)
    views = evaluation_view(
        of(frames, offsets), torch.arange(300), size=1200, stream="joint", centre_crop=centre_crop
    )
    for n, view in zip(counts, views, strict=True):
        start = int((1 - centre_crop) * n / 2)
        assert view[0, 0, 0, 0] == start
        assert view[0, -1, 0, 0] == n - start - 1


def test_streams() -> None:
    x = torch.randn(3, 3, 8, JOINTS, 2, generator=torch.Generator().manual_seed(0))
    bone, motion = torch.zeros_like(x), torch.zeros_like(x)
    for joint, parent in LAYOUT.bones:
        bone[:, :, :, joint] = x[:, :, :, joint] - x[:, :, :, parent]
    for t in range(7):
        motion[:, :, t] = x[:, :, t + 1] - x[:, :, t]
    assert torch.equal(as_stream(x, "joint", PARENTS), x)
    assert torch.equal(as_stream(x, "bone", PARENTS), bone)
    assert torch.equal(as_stream(x, "motion", PARENTS), motion)
    with pytest.raises(
        ValueError, match="stream is 'velocity', must be one of joint, bone, motion"
    ):
        as_stream(x, "velocity", PARENTS)


def test_the_stream_is_taken_after_the_resize() -> None:
    clips, indices, crop = packed(), torch.arange(len(LENGTHS)), only(crop=Crop())
    joint = make_views(clips, indices, crop).x
    for stream in STREAMS:
        x = make_views(clips, indices, crop, stream=stream).x
        assert torch.equal(x, as_stream(joint, stream, PARENTS))
        part = evaluation_view(clips, indices, size=SIZE, stream=stream)
        plain = evaluation_view(clips, indices, size=SIZE, stream="joint")
        assert torch.equal(part, as_stream(plain, stream, PARENTS))


def test_views_are_made_without_reading_from_the_device() -> None:
    """The meta device has shapes and no values: whoever waits for one gets an error."""
    clips = packed((30, 77))
    clips = of(clips.frames.to("meta"), clips.offsets.to("meta"))
    indices = torch.arange(2, device="meta")
    for kind in TEMPORAL_MASKS:
        mask = TemporalMask(kind=kind, weight=0.5)
        every = replace(EVERY, temporal_mask=mask)
        assert make_views(clips, indices, every).x.shape == (2, 3, SIZE, JOINTS, 2)


# ---- Random numbers ------------------------------------------------------------------------------


def splitmix64(state: int) -> tuple[int, int]:
    """The generator as its authors print it: the next state and its output."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return state, z ^ (z >> 31)


def test_splitmix64_gives_the_published_numbers() -> None:
    """The first outputs for seed 1234567, as in the Rosetta code of the generator."""
    state, numbers = 1234567, []
    for _ in range(3):
        state, number = splitmix64(state)
        numbers.append(number)
    assert numbers == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize(("seed", "epoch", "clip", "view"), [(0, 0, 0, 0), (5, 450, 113944, 1)])
def test_uniforms_are_splitmix64(seed: int, epoch: int, clip: int, view: int) -> None:
    state = 0
    for part in (seed, epoch, view, clip):
        _, state = splitmix64(state + part)
    expected = []
    for _ in range(5):
        state, number = splitmix64(state)
        expected.append((number >> 40) / 2**24)
    assert uniforms(seed, epoch, torch.tensor([clip]), view, 5)[0].tolist() == expected


def test_uniforms_are_uniform_and_independent() -> None:
    u = uniforms(0, 0, torch.arange(50_000), 0, 8).double()
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:
        counts = column.histc(20, 0, 1)
        assert ((counts - 2500) ** 2 / 2500).sum() < 45.3  # chi-square, 19 degrees, p = 0.0006
    assert (torch.corrcoef(u.T) - torch.eye(8)).abs().max() < 0.02
    neighbours = torch.stack([u[:-1, 0], u[1:, 0]])
    assert torch.corrcoef(neighbours)[0, 1].abs() < 0.02


def test_uniforms_do_not_depend_on_the_batch() -> None:
    every = uniforms(1, 2, torch.arange(100), 0, 6)
    some = torch.tensor([99, 3, 3, 50])
    assert torch.equal(uniforms(1, 2, some, 0, 6), every[some])
    assert torch.equal(uniforms(1, 2, some, 0, 4), every[some, :4])
    views = torch.tensor([0, 1, 1, 0])
    mixed = uniforms(1, 2, some, views, 6)
    for row, clip, view in zip(mixed, some, views.tolist(), strict=True):
        assert torch.equal(row, uniforms(1, 2, clip[None], view, 6)[0])


# ---- Each augmentation, clip by clip, with the same numbers --------------------------------------


def naive_window(crop: Crop, u: np.ndarray, n: int) -> tuple[int, int]:
    scale = np.float32(crop.scale_min) + np.float32(crop.scale_max - crop.scale_min) * u[0]
    length = min(max(int(np.floor(n * scale)), crop.min_frames), n)
    return int(u[1] * (n - length + 1)), length


def naive_turned(x: np.ndarray, axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = {
        0: [[1, 0, 0], [0, c, s], [0, -s, c]],
        1: [[c, 0, -s], [0, 1, 0], [s, 0, c]],
        2: [[c, s, 0], [-s, c, 0], [0, 0, 1]],
    }[axis]
    return np.tensordot(np.array(matrix), x, axes=1)


def naive_rotate(x: np.ndarray, rotate: Rotate, u: np.ndarray) -> np.ndarray:
    if u[0] >= rotate.probability:
        return x
    main = int(u[1] * 3)
    for axis in range(3):
        most = rotate.degrees if axis == main else rotate.minor_degrees
        x = naive_turned(x, axis, u[2 + axis] * most)
    return x


def naive_turn(x: np.ndarray, turn: Turn, u: np.ndarray) -> np.ndarray:
    if u[0] >= turn.probability:
        return x
    for axis, most in ((2, turn.yaw), (0, turn.tilt), (1, turn.tilt)):
        x = naive_turned(x, axis, most * (2 * u[1 + axis] - 1))
    return x


def naive_scale(x: np.ndarray, scale: Scale, u: np.ndarray) -> np.ndarray:
    return x if u[0] >= scale.probability else x * (1 - scale.spread + 2 * scale.spread * u[1])


def naive_drop_axis(x: np.ndarray, drop_axis: DropAxis, u: np.ndarray) -> np.ndarray:
    if u[0] >= drop_axis.probability:
        return x
    return np.stack([0 * x[axis] if axis == int(3 * u[1]) else x[axis] for axis in range(3)])


def naive_flip(x: np.ndarray, flip: Flip, u: np.ndarray) -> np.ndarray:
    return x if u[0] >= flip.probability else x[:, :, list(SWAP)]


def naive_shear(x: np.ndarray, shear: Shear, u: np.ndarray) -> np.ndarray:
    if u[0] >= shear.probability:
        return x
    matrix = shear.max_shear * (2 * u[1:].reshape(3, 3) - 1)
    np.fill_diagonal(matrix, 1)
    return np.tensordot(matrix, x, axes=1)


def naive_spatial_mask(mask: SpatialMask, u: np.ndarray) -> list[int]:
    """The masked joints: walks counted by following bones, joints ranked by sorting a list."""
    if u[0] >= mask.probability:
        return []
    steps = {joint: {joint} for joint in range(JOINTS)}
    for joint, parent in LAYOUT.bones:
        steps[joint].add(parent)
        steps[parent].add(joint)
    walks = [0] * JOINTS
    for number in u[1:]:
        ends = [int(number * JOINTS)]
        for _ in range(mask.hops):
            ends = [there for here in ends for there in steps[here]]
        for end in ends:
            walks[end] += 1
    if mask.kind == "neighbourhood":
        return [joint for joint in range(JOINTS) if walks[joint]]
    ranked = sorted(range(JOINTS), key=lambda joint: (walks[joint], joint))
    return sorted(ranked[JOINTS - mask.joints :])


def naive_temporal_mask(mask: TemporalMask, u: np.ndarray, x: np.ndarray) -> list[int]:
    """The masked frames of a view (3, T, V, M) that has no mask yet."""
    if u[0] >= mask.probability:
        return []
    span = SIZE // mask.blocks
    moved = [0.0] * mask.blocks
    for frame in range(SIZE):
        here = max(frame, 1)  # the first frame counts as much as the second
        moved[frame // span] += np.linalg.norm(x[:, here] - x[:, here - 1], axis=0).sum()
    if mask.kind == "threshold":
        level = np.quantile(moved, mask.quantile)
        blocks = [block for block in range(mask.blocks) if moved[block] > level]
    else:
        wait = [
            (not m, -np.log1p(-n) / m if m else n) if mask.kind == "energy" else n
            for n, m in zip(u[1:], moved, strict=True)
        ]
        blocks = sorted(range(mask.blocks), key=lambda block: wait[block])[: mask.masked]
    return [frame for block in sorted(blocks) for frame in range(block * span, (block + 1) * span)]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    "given",
    [
        {"crop": Crop()},
        {"rotate": Rotate(probability=1)},
        {"flip": Flip()},
        {"shear": Shear(probability=1, max_shear=0.4)},
        {"spatial_mask": SpatialMask(joints=12, hops=1)},
        {"spatial_mask": SpatialMask(probability=1, joints=0)},
        {"spatial_mask": SpatialMask(probability=1, joints=JOINTS)},
        {"spatial_mask": SpatialMask(kind="neighbourhood", seeds=2)},
        {"temporal_mask": TemporalMask(blocks=8, masked=3)},
        {"temporal_mask": TemporalMask(probability=1, kind="energy", weight=0.25)},
        {"temporal_mask": TemporalMask(1, "threshold", blocks=8, quantile=0.4)},
        {"turn": Turn(probability=1, tilt=30)},
        {"scale": Scale(probability=1)},
        {"drop_axis": DropAxis(probability=0.5)},
        {name: getattr(PAPER, name) for name in NAMES},
        {name: getattr(EVERY, name) for name in NAMES},
    ],
    ids=lambda given: "all" if len(given) > 1 else next(iter(given)),
)
def test_training_view_equals_naive(given: dict, stream: str) -> None:
    clips = packed()
    indices = torch.tensor([11, 5, 8, 0, 8, 6, 7, 1, 2, 3, 4, 9, 10])
    augmentations = only(**given)
    views = make_views(clips, indices, augmentations, stream=stream)
    counts = [getattr(augmentations, name).draws for name in NAMES]
    numbers = uniforms(7, 3, indices, 1, sum(counts)).numpy()
    unmasked = make_views(clips, indices, without_masks(augmentations), stream=stream).x.double()
    for clip, row, x, joints, masked, seen in zip(
        indices.tolist(), numbers, views.x, views.joints, views.frames, unmasked, strict=True
    ):
        u = dict(zip(NAMES, np.split(row, np.cumsum(counts)[:-1]), strict=True))
        rows = clips.frames[clips.offsets[clip] : clips.offsets[clip + 1]]
        start, length = naive_window(augmentations.crop, u["crop"], len(rows))
        resized = interpolate(rows[start : start + length], SIZE)
        expected = as_stream(resized[None], stream, PARENTS)[0].double().numpy()
        expected = naive_turn(expected, augmentations.turn, u["turn"])
        expected = naive_scale(expected, augmentations.scale, u["scale"])
        expected = naive_rotate(expected, augmentations.rotate, u["rotate"])
        expected = naive_flip(expected, augmentations.flip, u["flip"])
        expected = naive_shear(expected, augmentations.shear, u["shear"])
        expected = naive_drop_axis(expected, augmentations.drop_axis, u["drop_axis"]).copy()
        spatial, temporal = augmentations.spatial_mask, augmentations.temporal_mask
        hidden_joints = naive_spatial_mask(spatial, u["spatial_mask"])
        # By the motion of our own view: it has clips that stand still, or would but for rounding.
        hidden_frames = naive_temporal_mask(temporal, u["temporal_mask"], seen.numpy())
        expected[:, :, hidden_joints] *= spatial.weight
        expected[:, hidden_frames] *= temporal.weight
        np.testing.assert_allclose(x, expected, rtol=0, atol=2e-5)
        assert joints.nonzero()[:, 0].tolist() == hidden_joints
        assert masked.nonzero()[:, 0].tolist() == hidden_frames


def test_query_and_key_of_one_call_are_those_of_two() -> None:
    clips, indices = packed(), torch.arange(len(LENGTHS))
    pair = make_views(clips, indices.repeat(2), PAPER, view=torch.arange(2).repeat_interleave(12))
    query, key = (make_views(clips, indices, PAPER, view=view) for view in (0, 1))
    torch.testing.assert_close(pair.x, torch.cat([query.x, key.x]))
    assert not torch.equal(query.x, key.x)


def test_augmentations_are_read_by_their_names() -> None:
    """No setting of one goes to another, and none is left at its default."""
    assert Augmentations.of({name: asdict(getattr(EVERY, name)) for name in NAMES}) == EVERY
    settings = {name: asdict(getattr(PAPER, name)) for name in NAMES}
    for number, name in enumerate(NAMES):
        field = "scale_min" if name == "crop" else "probability"
        settings[name][field] = number / 10
    read = Augmentations.of(settings)
    found = [next(iter(asdict(getattr(read, name)).values())) for name in NAMES]
    assert found == [number / 10 for number in range(9)]


def test_an_augmentation_that_is_not_named_is_off() -> None:
    assert Augmentations.of({"crop": asdict(Crop())}) == only(crop=Crop())
    turned = only(crop=Crop(), turn=Turn(probability=1))
    assert Augmentations.of({"crop": asdict(Crop()), "turn": asdict(turned.turn)}) == turned


def test_what_the_paper_has_not_is_drawn_after_what_it_has() -> None:
    """So a view of the paper's augmentations stays the same, bit for bit."""
    settings = {name: asdict(getattr(PAPER, name)) for name in NAMES[:6]}
    assert list(settings) == ["crop", "rotate", "flip", "shear", "spatial_mask", "temporal_mask"]
    assert Augmentations.of(settings) == PAPER
    counts = [getattr(PAPER, name).draws for name in NAMES[:6]]
    assert counts == [2, 5, 1, 10, 6, 17]
    ours = torch.cat(list(PAPER.draw(0, 0, MANY, 0).values()), dim=1)
    assert torch.equal(ours[:, :41], draws(41))


# ---- What the augmentations promise --------------------------------------------------------------

MANY = torch.arange(4000)


def draws(count: int) -> Tensor:
    return uniforms(0, 0, MANY, 0, count)


def moving(*moved: float) -> Tensor:
    """A view of one joint, as one of each of `MANY` clips, with this motion in each two frames."""
    steps = torch.tensor(moved).repeat_interleave(2)[1:] / 2
    x = torch.cat([torch.zeros(1), steps.cumsum(0)])
    return x[None, None, :, None, None].expand(len(MANY), 3, -1, 1, 1) / 3**0.5


STILL = torch.zeros(1, 3, SIZE, 1, 1).expand(len(MANY), -1, -1, -1, -1)


@pytest.mark.parametrize("hops", [0, 1, 2, 3])
def test_the_neighbourhood_mask_is_a_ball_around_one_seed(hops: int) -> None:
    mask = SpatialMask(probability=1, kind="neighbourhood", seeds=1, hops=hops)
    masks = mask.hidden(draws(mask.draws), PARENTS)
    distance = np.where(adjacency(PARENTS).numpy(), 1.0, np.inf)
    np.fill_diagonal(distance, 0)
    for middle in range(JOINTS):  # Floyd-Warshall
        distance = np.minimum(distance, distance[:, [middle]] + distance[[middle]])
    balls = {tuple(ball) for ball in (distance <= hops).tolist()}
    assert {tuple(row) for row in masks.tolist()} == balls


def test_motion_is_what_every_joint_of_every_body_goes() -> None:
    torch.testing.assert_close(
        motion(moving(3, 1, 0, 4))[0].reshape(4, 2).sum(1), torch.tensor([3.0, 1, 0, 4])
    )
    x = torch.zeros(1, 3, 4, JOINTS, 2)
    x[0, :, 2, 5, 1] = torch.tensor([2.0, 3, 6])
    assert motion(x).tolist() == [[0, 0, 7, 7]]
    assert motion(x[:, :, :1]).tolist() == [[0]]


def test_energy_draws_blocks_in_proportion_to_their_motion_without_replacement() -> None:
    moved = np.array([3.0, 1, 0, 4])
    x, part = moving(*moved), moved / moved.sum()
    mask = TemporalMask(probability=1, kind="energy", blocks=4, masked=1)
    numbers = draws(mask.draws)

    def share(masked: int) -> np.ndarray:
        masks = replace(mask, masked=masked).hidden(numbers, x)[:, ::2]
        assert (masks.sum(1) == masked).all()
        return masks.double().mean(0).numpy()

    np.testing.assert_allclose(share(1), part, atol=0.03)
    second = [sum(part[a] * part[b] / (1 - part[a]) for a in range(4) if a != b) for b in range(4)]
    np.testing.assert_allclose(share(2), part + second, atol=0.03)
    np.testing.assert_array_equal(share(3), [1, 1, 0, 1])  # still blocks come last
    uniform = TemporalMask(probability=1)
    still = replace(uniform, kind="energy").hidden(draws(uniform.draws), STILL)
    assert torch.equal(still, uniform.hidden(draws(uniform.draws), STILL))


@pytest.mark.parametrize(("quantile", "count"), [(0, 7), (0.5, 4), (0.625, 3), (0.99, 1)])
def test_threshold_masks_the_blocks_that_move_most(quantile: float, count: int) -> None:
    mask = TemporalMask(1, "threshold", blocks=8, quantile=quantile)
    x = torch.randn(50, 3, SIZE, JOINTS, 2, generator=torch.Generator().manual_seed(0))
    masks = mask.hidden(draws(mask.draws)[:50], x)[:, ::8]
    moved = motion(x).reshape(50, 8, 8).sum(2)
    assert (masks.sum(1) == count).all()
    least, most = moved.masked_fill(~masks, torch.inf), moved.masked_fill(masks, -torch.inf)
    assert (least.amin(1) > most.amax(1)).all()
    assert not mask.hidden(draws(mask.draws), STILL).any()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (SpatialMask(joints=JOINTS + 1), f"{JOINTS + 1} joints to mask"),
        (SpatialMask(kind="ball"), f"'ball', must be one of {', '.join(SPATIAL_MASKS)}"),
        (TemporalMask(blocks=10), "64 frames do not divide into 10 blocks"),
        (TemporalMask(masked=17), "17 blocks to mask, a view has 16"),
        (TemporalMask(kind="still"), f"'still', must be one of {', '.join(TEMPORAL_MASKS)}"),
    ],
)
def test_masks_that_cannot_be_are_refused(mask: SpatialMask | TemporalMask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask.hidden(draws(mask.draws), PARENTS if isinstance(mask, SpatialMask) else STILL)


def test_adjacency_of_a_chain() -> None:
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert adjacency([0, 0, 1, 2]).tolist() == expected


def test_the_largest_number_gives_the_last_crop() -> None:
    """1 - 2^-24, times the number of places for a crop, must not round up to one place more."""
    frame_count = torch.arange(1, 2**18)
    u = torch.tensor([0, 1 - 2.0**-24]).expand(len(frame_count), 2)
    start, length = Crop(scale_min=0, min_frames=1).window(u, frame_count)
    assert (length == 1).all()
    assert torch.equal(start, frame_count - 1)
