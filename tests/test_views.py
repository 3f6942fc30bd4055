"""Views against golden arrays and against naive versions that take one clip at a time."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from learning.clips import DeviceClips
from learning.randomness import uniforms
from learning.views import (
    SPATIAL_MASKS,
    STREAMS,
    Augmentations,
    Crop,
    Flip,
    Rotate,
    Shear,
    SpatialMask,
    TemporalMask,
    View,
    as_stream,
    crop_resize,
    cropped_view,
    evaluation_view,
    training_view,
)
from model.graph import adjacency
from skeletons.sensors import LAYOUTS

LAYOUT = LAYOUTS["kinect-v2"]
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


PAPER = Augmentations()
NAMES = [field.name for field in fields(Augmentations)]


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


def test_bone_and_motion_do_not_see_where_the_body_stands() -> None:
    x = torch.randn(2, 3, 8, JOINTS, 2, generator=torch.Generator().manual_seed(0)).double()
    shift = torch.tensor([1.0, -2.0, 3.0])[None, :, None, None, None]
    for kind in ("bone", "motion"):
        torch.testing.assert_close(as_stream(x + shift, kind, PARENTS), as_stream(x, kind, PARENTS))


def test_the_stream_is_taken_after_the_resize() -> None:
    clips, indices, crop = packed(), torch.arange(len(LENGTHS)), only(crop=Crop())
    joint = make_views(clips, indices, crop).x
    for stream in STREAMS:
        x = make_views(clips, indices, crop, stream=stream).x
        assert torch.equal(x, as_stream(joint, stream, PARENTS))
        part = evaluation_view(clips, indices, size=SIZE, stream=stream)
        plain = evaluation_view(clips, indices, size=SIZE, stream="joint")
        assert torch.equal(part, as_stream(plain, stream, PARENTS))


def test_cropped_view_is_a_training_view_without_augmentations() -> None:
    clips, indices, crop = packed(), torch.arange(len(LENGTHS)), Crop(scale_min=0.5)
    plain = cropped_view(clips, indices, size=SIZE, stream="bone", crop=crop, seed=7, epoch=3)
    same = make_views(clips, indices, only(crop=crop), stream="bone", view=0)
    torch.testing.assert_close(plain, same.x)


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


def test_uniforms_differ_in_seed_epoch_clip_and_view() -> None:
    clips = torch.arange(40)
    rows = [
        tuple(row)
        for seed in range(4)
        for epoch in range(4)
        for view in range(2)
        for row in uniforms(seed, epoch, clips, view, 2).tolist()
    ]
    assert len(set(rows)) == 4 * 4 * 2 * 40


def test_uniforms_do_not_depend_on_the_batch() -> None:
    every = uniforms(1, 2, torch.arange(100), 0, 6)
    some = torch.tensor([99, 3, 3, 50])
    assert torch.equal(uniforms(1, 2, some, 0, 6), every[some])
    assert torch.equal(uniforms(1, 2, some, 0, 4), every[some, :4])
    views = torch.tensor([0, 1, 1, 0])
    mixed = uniforms(1, 2, some, views, 6)
    for row, clip, view in zip(mixed, some, views.tolist(), strict=True):
        assert torch.equal(row, uniforms(1, 2, clip[None], view, 6)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_every_device_draws_the_same() -> None:
    clips = torch.arange(1000)
    assert torch.equal(uniforms(3, 1, clips.cuda(), 1, 40).cpu(), uniforms(3, 1, clips, 1, 40))
    host, indices = packed(), torch.arange(len(LENGTHS))
    here = make_views(host, indices, PAPER)
    device = of(host.frames.cuda(), host.offsets.cuda())
    there = make_views(device, indices, PAPER)
    torch.testing.assert_close(there.x.cpu(), here.x, rtol=0, atol=1e-4)
    assert torch.equal(there.joints.cpu(), here.joints)
    assert torch.equal(there.frames.cpu(), here.frames)


# ---- Each augmentation, clip by clip, with the same numbers --------------------------------------


def naive_window(crop: Crop, u: np.ndarray, n: int) -> tuple[int, int]:
    scale = np.float32(crop.scale_min) + np.float32(crop.scale_max - crop.scale_min) * u[0]
    length = min(max(int(np.floor(n * scale)), crop.min_frames), n)
    return int(u[1] * (n - length + 1)), length


def naive_rotate(x: np.ndarray, rotate: Rotate, u: np.ndarray) -> np.ndarray:
    if u[0] >= rotate.probability:
        return x
    main = int(u[1] * 3)
    for axis in range(3):
        angle = np.radians(u[2 + axis] * (rotate.degrees if axis == main else rotate.minor_degrees))
        c, s = np.cos(angle), np.sin(angle)
        matrix = {
            0: [[1, 0, 0], [0, c, s], [0, -s, c]],
            1: [[c, 0, -s], [0, 1, 0], [s, 0, c]],
            2: [[c, s, 0], [-s, c, 0], [0, 0, 1]],
        }[axis]
        x = np.tensordot(np.array(matrix), x, axes=1)
    return x


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


def naive_temporal_mask(mask: TemporalMask, u: np.ndarray) -> list[int]:
    if u[0] >= mask.probability:
        return []
    blocks = sorted(range(mask.blocks), key=lambda block: u[1 + block])[: mask.masked]
    span = SIZE // mask.blocks
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
        {"spatial_mask": SpatialMask(kind="neighbourhood", seeds=2)},
        {"temporal_mask": TemporalMask(blocks=8, masked=3)},
        {name: getattr(PAPER, name) for name in NAMES},
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
    for clip, u, x, joints, masked in zip(
        indices.tolist(), numbers, views.x, views.joints, views.frames, strict=True
    ):
        u_crop, u_rotate, u_flip, u_shear, u_spatial, u_temporal = np.split(
            u, np.cumsum(counts)[:-1]
        )
        rows = clips.frames[clips.offsets[clip] : clips.offsets[clip + 1]]
        start, length = naive_window(augmentations.crop, u_crop, len(rows))
        resized = interpolate(rows[start : start + length], SIZE)
        expected = as_stream(resized[None], stream, PARENTS)[0].double().numpy()
        expected = naive_rotate(expected, augmentations.rotate, u_rotate)
        expected = naive_flip(expected, augmentations.flip, u_flip)
        expected = naive_shear(expected, augmentations.shear, u_shear).copy()
        hidden_joints = naive_spatial_mask(augmentations.spatial_mask, u_spatial)
        hidden_frames = naive_temporal_mask(augmentations.temporal_mask, u_temporal)
        expected[:, :, hidden_joints] = 0
        expected[:, hidden_frames] = 0
        np.testing.assert_allclose(x, expected, rtol=0, atol=2e-5)
        assert joints.nonzero()[:, 0].tolist() == hidden_joints
        assert masked.nonzero()[:, 0].tolist() == hidden_frames


def test_a_view_does_not_depend_on_the_batch() -> None:
    clips = packed()
    every = make_views(clips, torch.arange(len(LENGTHS)), PAPER)
    for clip in (0, 4, 8):
        alone = make_views(clips, torch.tensor([clip]), PAPER)
        torch.testing.assert_close(alone.x[0], every.x[clip])
        assert torch.equal(alone.joints[0], every.joints[clip])


def test_query_and_key_of_one_call_are_those_of_two() -> None:
    clips, indices = packed(), torch.arange(len(LENGTHS))
    pair = make_views(clips, indices.repeat(2), PAPER, view=torch.arange(2).repeat_interleave(12))
    query, key = (make_views(clips, indices, PAPER, view=view) for view in (0, 1))
    torch.testing.assert_close(pair.x, torch.cat([query.x, key.x]))
    assert not torch.equal(query.x, key.x)


def test_augmentations_are_read_by_their_names() -> None:
    """No setting of one goes to another, and none is left at its default."""
    assert Augmentations.of({name: asdict(getattr(PAPER, name)) for name in NAMES}) == PAPER
    settings = {name: asdict(getattr(PAPER, name)) for name in NAMES}
    for number, name in enumerate(NAMES):
        field = "scale_min" if name == "crop" else "probability"
        settings[name][field] = number / 10
    read = Augmentations.of(settings)
    assert [next(iter(asdict(getattr(read, name)).values())) for name in NAMES] == [
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
    ]


# ---- What the augmentations promise --------------------------------------------------------------

MANY = torch.arange(4000)


def draws(count: int) -> Tensor:
    return uniforms(0, 0, MANY, 0, count)


def test_everything_switched_off_is_the_resized_clip() -> None:
    clips = packed()
    view = make_views(clips, torch.arange(len(LENGTHS)))
    torch.testing.assert_close(
        view.x, crop_resize(clips.frames, clips.offsets[:-1], clips.offsets.diff(), SIZE)
    )
    assert not view.joints.any()
    assert not view.frames.any()


def test_crops_lie_within_the_clip_and_reach_its_ends() -> None:
    crop = Crop()
    for n in (1, 63, 64, 65, 100, 300):
        start, length = crop.window(draws(crop.draws), torch.full_like(MANY, n))
        assert (start >= 0).all()
        assert (start + length <= n).all()
        assert (length >= min(64, n)).all()
        assert (start + length == n).any()
        assert (start == 0).any()
    assert length.max() >= 299
    # U(0.1, 1) of 300 frames is at most the minimum, 64, for u below (64 / 300 - 0.1) / 0.9.
    assert (length == 64).float().mean().item() == pytest.approx(0.126, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_augmentations_happen_as_often_as_asked(probability: float) -> None:
    rotate, shear = Rotate(probability), Shear(probability)
    spatial, temporal = SpatialMask(probability), TemporalMask(probability)
    happened = {
        "rotate": (rotate.matrix(draws(rotate.draws)) != torch.eye(3)).any(dim=(1, 2)),
        "flip": Flip(probability).chosen(draws(1)),
        "shear": (shear.matrix(draws(shear.draws)) != torch.eye(3)).any(dim=(1, 2)),
        "spatial": spatial.hidden(draws(spatial.draws), PARENTS).any(1),
        "temporal": temporal.hidden(draws(temporal.draws), SIZE).any(1),
    }
    for which in happened.values():
        tolerance = 0 if probability in (0, 1) else 0.03
        assert which.float().mean().item() == pytest.approx(probability, abs=tolerance)


def test_rotations_are_rotations_about_mostly_one_axis() -> None:
    rotate = Rotate(probability=1)
    matrix = rotate.matrix(draws(rotate.draws)).double()
    torch.testing.assert_close(
        matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix), rtol=0, atol=1e-6
    )
    assert (torch.linalg.det(matrix) > 0).all()
    angle = torch.rad2deg(torch.acos((matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2))
    assert angle.max() < 31.5
    assert angle.mean().item() == pytest.approx(15, abs=0.7)


def test_shears_have_a_unit_diagonal_and_bounded_entries() -> None:
    shear = Shear(probability=1, max_shear=0.5)
    matrix = shear.matrix(draws(shear.draws))
    assert (matrix.diagonal(dim1=1, dim2=2) == 1).all()
    entries = matrix[:, ~torch.eye(3, dtype=torch.bool)]
    assert entries.abs().max() <= 0.5
    assert entries.amin(0).max() < -0.45
    assert entries.amax(0).min() > 0.45


def test_flip_exchanges_joints_and_keeps_coordinates() -> None:
    clips, indices = packed(), torch.arange(len(LENGTHS))
    plain = make_views(clips, indices).x
    flipped = make_views(clips, indices, only(flip=Flip(probability=1))).x
    for joint, other in enumerate(SWAP):
        assert torch.equal(flipped[:, :, :, joint], plain[:, :, :, other])


@pytest.mark.parametrize("joints", [0, 1, 8, JOINTS])
def test_the_top_mask_has_exactly_its_joints(joints: int) -> None:
    mask = SpatialMask(probability=1, joints=joints)
    assert (mask.hidden(draws(mask.draws), PARENTS).sum(1) == joints).all()


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


def test_the_temporal_mask_has_exactly_its_blocks() -> None:
    mask = TemporalMask(probability=1)
    masks = mask.hidden(draws(mask.draws), SIZE).reshape(-1, 16, 4)
    assert (masks.all(2) == masks.any(2)).all()
    assert (masks.any(2).sum(1) == 6).all()
    share = masks.any(2).float().mean(0)
    torch.testing.assert_close(share, torch.full((16,), 6 / 16), rtol=0, atol=0.03)


def test_masked_joints_and_frames_are_zero_and_no_others() -> None:
    view = make_views(packed(), torch.arange(len(LENGTHS)), PAPER)
    hidden = view.joints[:, None, :] | view.frames[:, :, None]
    zero = (view.x == 0).all(1).all(-1)
    assert torch.equal(zero, hidden)


def test_masks_that_cannot_be_are_refused() -> None:
    too_many = SpatialMask(joints=JOINTS + 1)
    with pytest.raises(ValueError, match=f"{JOINTS + 1} joints to mask"):
        too_many.hidden(draws(too_many.draws), PARENTS)
    kind = SpatialMask(kind="ball")
    with pytest.raises(ValueError, match=f"'ball', must be one of {', '.join(SPATIAL_MASKS)}"):
        kind.hidden(draws(kind.draws), PARENTS)
    blocks = TemporalMask(blocks=10)
    with pytest.raises(ValueError, match="64 frames do not divide into 10 blocks"):
        blocks.hidden(draws(blocks.draws), SIZE)
    masked = TemporalMask(masked=17)
    with pytest.raises(ValueError, match="17 blocks to mask, a view has 16"):
        masked.hidden(draws(masked.draws), SIZE)


def test_adjacency_of_a_chain() -> None:
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert adjacency([0, 0, 1, 2]).tolist() == expected


def test_adjacency_of_the_skeleton_is_a_tree_with_self_links() -> None:
    matrix = adjacency(PARENTS)
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().sum() == JOINTS
    assert matrix.sum() == JOINTS + 2 * (JOINTS - 1)
    assert (torch.linalg.matrix_power(matrix, JOINTS) > 0).all()  # connected


def test_the_largest_number_gives_the_last_crop() -> None:
    """1 - 2^-24, times the number of places for a crop, must not round up to one place more."""
    frame_count = torch.arange(1, 2**18)
    u = torch.tensor([0, 1 - 2.0**-24]).expand(len(frame_count), 2)
    start, length = Crop(scale_min=0, min_frames=1).window(u, frame_count)
    assert (length == 1).all()
    assert torch.equal(start, frame_count - 1)
