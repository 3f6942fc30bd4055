"""Views of a clip: cropped and resized in time, as one of three streams, augmented for pretraining.

A view is (B, 3, T, V, M): M bodies, V joints, T `size` frames, lengths in metres. It is made of a
whole batch at once where the clips' frames are, without waiting for the device, and handed out on
the device of the networks.

Every random number of a view is a function of (seed, epoch, clip, view): it depends neither on the
batch that a clip is in, nor on the process or the device that draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from learning.clips import DeviceClips
from learning.randomness import uniforms
from model.graph import adjacency

STREAMS = ("joint", "bone", "motion")
SPATIAL_MASKS = ("top", "neighbourhood")


# ---- Crop, resize, stream ------------------------------------------------------------------------


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


def evaluation_view(
    clips: DeviceClips, indices: Tensor, *, size: int, stream: str, centre_crop: float = 0.95
) -> Tensor:
    """The central part `centre_crop` of each of the clips `indices` (B,), resized."""
    first, frame_count = clips.extent(_moved(indices, clips.frames.device))
    start = ((1 - centre_crop) * frame_count.double() / 2).long()
    x = crop_resize(clips.frames, first + start, frame_count - 2 * start, size)
    return as_stream(x, stream, clips.layout.parents).to(clips.device)


# ---- Augmentations: settings, and what a row of uniform numbers makes of them --------------------
# Each but the crop is switched off by probability 0. The defaults are the paper's.


@dataclass(frozen=True)
class Crop:
    """A random part of a clip: U(`scale_min`, `scale_max`) of it, at least `min_frames` frames."""

    scale_min: float = 0.1
    scale_max: float = 1.0
    min_frames: int = 64
    draws: ClassVar[int] = 2

    def window(self, u: Tensor, frame_count: Tensor) -> tuple[Tensor, Tensor]:
        """First frame and length (each (B,)) within clips of `frame_count` frames."""
        scale = self.scale_min + (self.scale_max - self.scale_min) * u[:, 0]
        length = torch.minimum((frame_count * scale).long().clamp(min=self.min_frames), frame_count)
        return _integers(u[:, 1], frame_count - length + 1), length


@dataclass(frozen=True)
class Rotate:
    """Turns by U(0, `degrees`) about one of x, y, z, by U(0, `minor_degrees`) about the others."""

    probability: float = 0.5
    degrees: float = 30.0
    minor_degrees: float = 1.0
    draws: ClassVar[int] = 5

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that turn column vectors about x, then y, then z."""
        eye = torch.eye(3, device=u.device)
        main = _integers(u[:, 1:2], 3) == torch.arange(3, device=u.device)
        angle = torch.deg2rad(u[:, 2:] * torch.where(main, self.degrees, self.minor_degrees))
        # Rodrigues' formula; axis a has the generator K with K_ij = epsilon_aij (a clockwise turn).
        generator = torch.linalg.cross(eye[:, None], eye[None])
        sin, cos = (rearrange(f(angle), "b a -> b a 1 1") for f in (torch.sin, torch.cos))
        x, y, z = (eye + sin * generator + (1 - cos) * generator @ generator).unbind(1)
        return torch.where(_chosen(u, self.probability)[:, None, None], z @ y @ x, eye)


@dataclass(frozen=True)
class Flip:
    """Exchanges left and right joints; their coordinates stay as they are."""

    probability: float = 0.5
    draws: ClassVar[int] = 1

    def chosen(self, u: Tensor) -> Tensor:
        """Which clips (B,) are flipped."""
        return _chosen(u, self.probability)


@dataclass(frozen=True)
class Shear:
    """A matrix with a unit diagonal and U(-`max_shear`, `max_shear`) elsewhere."""

    probability: float = 0.5
    max_shear: float = 1.0
    draws: ClassVar[int] = 10

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that shear column vectors. The numbers on the diagonal go unused."""
        eye = torch.eye(3, device=u.device)
        entries = self.max_shear * (2 * rearrange(u[:, 1:], "b (i j) -> b i j", i=3) - 1)
        shear = torch.where(eye.bool(), eye, entries)
        return torch.where(_chosen(u, self.probability)[:, None, None], shear, eye)


@dataclass(frozen=True)
class SpatialMask:
    """Zeroes joints around `seeds` joints that are drawn with replacement, for all frames and
    bodies.

    D = A^`hops` counts the walks between joints along the bones, A being their adjacency with
    self-links. `top` (released code): the `joints` joints with the largest sum of the seeds' rows
    of D, the higher index first among equals. `neighbourhood` (paper): every joint j with D_ij != 0
    for a seed i; `joints` is not used.
    """

    probability: float = 0.5
    kind: str = "top"
    seeds: int = 5
    joints: int = 8
    hops: int = 2

    @property
    def draws(self) -> int:
        return 1 + self.seeds

    def hidden(self, u: Tensor, parents: tuple[int, ...]) -> Tensor:
        """Which joints (B, V) of each clip are zeroed."""
        joint_count = len(parents)
        seeds = _integers(u[:, 1:], joint_count)
        walks = _walks(parents, self.hops, u.device)[seeds].sum(1)
        match self.kind:
            case "top":
                if self.joints > joint_count:
                    raise ValueError(
                        f"{self.joints} joints to mask, the skeleton has {joint_count}"
                    )
                largest = walks.argsort(dim=1, stable=True)[:, joint_count - self.joints :]
                mask = torch.zeros_like(walks, dtype=torch.bool).scatter(1, largest, True)
            case "neighbourhood":
                mask = walks > 0
            case _:
                options = ", ".join(SPATIAL_MASKS)
                raise ValueError(f"spatial mask is {self.kind!r}, must be one of {options}")
        return mask & _chosen(u, self.probability)[:, None]


@dataclass(frozen=True)
class TemporalMask:
    """Zeroes `masked` of the `blocks` equal blocks of frames, for all joints and bodies."""

    probability: float = 0.5
    blocks: int = 16
    masked: int = 6

    @property
    def draws(self) -> int:
        return 1 + self.blocks

    def hidden(self, u: Tensor, size: int) -> Tensor:
        """Which frames (B, T) of each clip are zeroed."""
        if size % self.blocks:
            raise ValueError(f"{size} frames do not divide into {self.blocks} blocks")
        if self.masked > self.blocks:
            raise ValueError(f"{self.masked} blocks to mask, a view has {self.blocks}")
        drawn = u[:, 1:].argsort(dim=1, stable=True)[:, : self.masked]
        mask = torch.zeros_like(u[:, 1:], dtype=torch.bool).scatter(1, drawn, True)
        mask &= _chosen(u, self.probability)[:, None]
        return repeat(mask, "b block -> b (block frame)", frame=size // self.blocks)


@dataclass(frozen=True)
class Augmentations:
    """How the random views of pretraining are made, each step after the one before it."""

    crop: Crop = Crop()
    rotate: Rotate = Rotate()
    flip: Flip = Flip()
    shear: Shear = Shear()
    spatial_mask: SpatialMask = SpatialMask()
    temporal_mask: TemporalMask = TemporalMask()

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]]) -> "Augmentations":
        """From the settings of each by its name, all of them."""
        return cls(
            crop=Crop(**settings["crop"]),
            rotate=Rotate(**settings["rotate"]),
            flip=Flip(**settings["flip"]),
            shear=Shear(**settings["shear"]),
            spatial_mask=SpatialMask(**settings["spatial_mask"]),
            temporal_mask=TemporalMask(**settings["temporal_mask"]),
        )

    def draw(
        self, seed: int, epoch: int | Tensor, clips: Tensor, view: int | Tensor
    ) -> tuple[Tensor, ...]:
        """The uniform numbers (B, draws) of each augmentation, in the order of the fields."""
        counts = [getattr(self, field.name).draws for field in fields(self)]
        return uniforms(seed, epoch, clips, view, sum(counts)).split(counts, dim=1)


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
    """A random view of each of the clips `indices` (B,) for pretraining.

    Views are told apart by `view`: one number for all, or one a clip (B,), so that one call makes
    the query and the key views of a batch.

    Call it outside autocast, which would round coordinates, and outside torch.compile, whose
    compiler rejects integer constants that wrap around.
    """
    indices = _moved(indices, clips.frames.device)
    u_crop, u_rotate, u_flip, u_shear, u_spatial, u_temporal = augmentations.draw(
        seed, epoch, indices, view
    )
    first, frame_count = clips.extent(indices)
    start, length = augmentations.crop.window(u_crop, frame_count)
    x = crop_resize(clips.frames, first + start, length, size)
    x = as_stream(x, stream, clips.layout.parents)

    # The flip reorders joints and the two others mix coordinates, so it may follow both.
    matrix = augmentations.shear.matrix(u_shear) @ augmentations.rotate.matrix(u_rotate)
    x = einsum(matrix, x, "b i j, b j t v m -> b i t v m")
    flipped = rearrange(augmentations.flip.chosen(u_flip), "b -> b 1 1 1 1")
    x = torch.where(flipped, x[:, :, :, _index(clips.layout.swap, x.device)], x)

    joints = augmentations.spatial_mask.hidden(u_spatial, clips.layout.parents)
    frames = augmentations.temporal_mask.hidden(u_temporal, size)
    hidden = rearrange(joints, "b v -> b 1 1 v 1") | rearrange(frames, "b t -> b 1 t 1 1")
    return View(x.masked_fill(hidden, 0).to(clips.device), joints, frames)


def cropped_view(
    clips: DeviceClips,
    indices: Tensor,
    *,
    size: int,
    stream: str,
    crop: Crop,
    seed: int,
    epoch: int,
) -> Tensor:
    """A random crop of each of the clips `indices` (B,), resized, else as it is: fine-tuning's."""
    indices = _moved(indices, clips.frames.device)
    first, frame_count = clips.extent(indices)
    start, length = crop.window(uniforms(seed, epoch, indices, 0, crop.draws), frame_count)
    x = crop_resize(clips.frames, first + start, length, size)
    return as_stream(x, stream, clips.layout.parents).to(clips.device)


def _integers(u: Tensor, end: Tensor | int) -> Tensor:
    """Uniform integers from 0 to `end` - 1; `u` times `end` never rounds up to `end`."""
    return (u * end).long()


def _chosen(u: Tensor, probability: float) -> Tensor:
    """Whether an augmentation is applied (B,), by the first of its draws."""
    return u[:, 0] < probability


def _moved(indices: Tensor, device: torch.device) -> Tensor:
    """The indices on a device, without waiting for the work that is queued there."""
    return indices.to(device, non_blocking=True)


# Constants are kept on their device: a copy from the host would wait for all work queued there.
# They outlive the mode they are first used in, so they must not become inference tensors.


@lru_cache
@torch.inference_mode(False)
def _index(joints: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(joints, device=device)


@lru_cache
@torch.inference_mode(False)
def _walks(parents: tuple[int, ...], hops: int, device: torch.device) -> Tensor:
    """Number of walks of `hops` steps between joints: the paper's D = A^hops."""
    return torch.linalg.matrix_power(adjacency(parents), hops).to(device)
