"""Views of a clip: cropped and resized in time, as one of three streams, augmented for training.

A view is (B, 3, T, V, M): M bodies, V joints, T `size` frames, lengths in metres. It is made of a
whole batch at once where the clips' frames are, without waiting for the device, and handed out on
the device of the networks.

Every random number of a view is a function of (seed, epoch, clip, view): it depends neither on the
batch that a clip is in, nor on the process or the device that draws it.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from einops import einsum, rearrange
from torch import Tensor

from learning.training.augment import Augmentations
from learning.training.device_clips import DeviceClips
from learning.training.settings import STREAMS


def crop_resize(frames: Tensor, start: Tensor, length: Tensor, size: int) -> Tensor:
    """Rows `start` to `start + length` (each (B,)) of `frames`, resized linearly to `size` frames.

    Equal to `interpolate(mode="linear", align_corners=False)` of each clip, as (B, 3, T, V, M).
    """
    centre = torch.arange(size, device=frames.device) + 0.5
    position = (centre * (length / size)[:, None] - 0.5).clamp(min=0)
    lower = position.long()
    upper = torch.minimum(lower + 1, length[:, None] - 1)
    weight = rearrange(position - lower, "b t -> b t 1 1 1")
    clip = torch.lerp(frames[start[:, None] + lower], frames[start[:, None] + upper], weight)
    return rearrange(clip, "b t m v c -> b c t v m")


def as_stream(x: Tensor, stream: str, parents: tuple[int, ...]) -> Tensor:
    """Joint positions `x` (B, 3, T, V, M) as one of the `STREAMS`, of the same shape.

    joint: the positions themselves; bone: joint minus its parent, zero for the root, its own
    parent; motion: next frame minus this one, zero in the last.
    """
    match stream:
        case "joint":
            return x
        case "bone":
            return x - x[:, :, :, _index(parents, x.device)]
        case "motion":
            return x.diff(dim=2, append=x[:, :, -1:])
    raise ValueError(f"stream is {stream!r}, must be one of {', '.join(STREAMS)}")


class View(NamedTuple):
    """Views `x` (B, 3, T, V, M) and what of them is masked: `joints` (B, V), `frames` (B, T)."""

    x: Tensor
    joints: Tensor
    frames: Tensor


def training_view(
    clips: DeviceClips,
    indices: Tensor,
    *,
    size: int,
    stream: str,
    augmentations: Augmentations,
    seed: int,
    epoch: int | Tensor,
    view: int | Tensor,
) -> View:
    """A random view of each of the clips `indices` (B,): cropped, resized, made the stream, then
    through the steps of `augmentations`; what both masks hide has both weights.

    Views are told apart by `view`: one number for all, or one a clip (B,), so that one call makes
    the query and the key views of a batch.

    Call it outside autocast, which would round coordinates, and outside torch.compile, whose
    compiler rejects integer constants that wrap around.
    """
    indices = indices.to(clips.frames.device, non_blocking=True)
    u = augmentations.draw(seed, epoch, indices, view)
    first, frame_count = clips.extent(indices)
    start, length = augmentations.crop.window(u["crop"], frame_count)
    x = crop_resize(clips.frames, first + start, length, size)
    x = as_stream(x, stream, clips.layout.parents)

    # The flip reorders joints and the others mix coordinates, so it may follow all of them.
    matrix = augmentations.matrix(u)
    if matrix is not None:
        x = einsum(matrix, x, "b i j, b j t v m -> b i t v m")
    flip = augmentations.flip
    spatial, temporal = augmentations.spatial_mask, augmentations.temporal_mask
    joints = spatial.hidden(u["spatial_mask"], clips.layout.parents)
    if flip.probability:
        flipped = rearrange(flip.chosen(u["flip"]), "b -> b 1 1 1 1")
        x = torch.where(flipped, x[:, :, :, _index(clips.layout.swap, x.device)], x)
    frames = temporal.hidden(u["temporal_mask"], x)
    # Where all three are off, the view keeps its layout in memory, and results their bits.
    if flip.probability or spatial.probability or temporal.probability:
        of_joints = rearrange(torch.where(joints, spatial.weight, 1.0), "b v -> b 1 1 v 1")
        of_frames = rearrange(torch.where(frames, temporal.weight, 1.0), "b t -> b 1 t 1 1")
        left = of_joints * of_frames  # of each coordinate
        x = x * left if spatial.weight or temporal.weight else x.masked_fill(left == 0, 0)
    return View(x.to(clips.device), joints, frames)


@lru_cache
@torch.inference_mode(False)
def _index(joints: tuple[int, ...], device: torch.device) -> Tensor:
    """Joints as an index, kept on its device (see `augment`)."""
    return torch.tensor(joints, device=device)
