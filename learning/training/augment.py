"""Augmentations: their settings, and what a row of uniform numbers makes of them.

Each but the crop is switched off by probability 0. The defaults are the paper's, which has neither
turn, scale nor drop of an axis. A clip is in its normal form: z up, body 0 upright at the origin in
the first frame.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor

from learning.training.randomness import uniforms
from learning.training.settings import SPATIAL_MASKS, TEMPORAL_MASKS
from model.network.graph_convolution import adjacency


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
class Turn:
    """Turns the body by U(-`yaw`, `yaw`) degrees about z, its own axis, and then by U(-`tilt`,
    `tilt`) about x and about y."""

    probability: float = 0.0
    yaw: float = 60.0
    tilt: float = 0.0
    draws: ClassVar[int] = 4

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that turn column vectors about z, then x, then y."""
        about_z = torch.arange(3, device=u.device) == 2
        x, y, z = _rotations((2 * u[:, 1:] - 1) * torch.where(about_z, self.yaw, self.tilt))
        return _where_chosen(y @ x @ z, u, self.probability)


@dataclass(frozen=True)
class Scale:
    """Multiplies all coordinates of a clip by U(1 - `spread`, 1 + `spread`)."""

    probability: float = 0.0
    spread: float = 0.5
    draws: ClassVar[int] = 2

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that scale column vectors."""
        factor = 1 + self.spread * (2 * u[:, 1] - 1)
        scale = rearrange(factor, "b -> b 1 1") * torch.eye(3, device=u.device)
        return _where_chosen(scale, u, self.probability)


@dataclass(frozen=True)
class Rotate:
    """Turns by U(0, `degrees`) about one of x, y, z, by U(0, `minor_degrees`) about the others."""

    probability: float = 0.5
    degrees: float = 30.0
    minor_degrees: float = 1.0
    draws: ClassVar[int] = 5

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that turn column vectors about x, then y, then z."""
        main = _integers(u[:, 1:2], 3) == torch.arange(3, device=u.device)
        x, y, z = _rotations(u[:, 2:] * torch.where(main, self.degrees, self.minor_degrees))
        return _where_chosen(z @ y @ x, u, self.probability)


@dataclass(frozen=True)
class Flip:
    """Exchanges left and right joints; their coordinates stay as they are."""

    probability: float = 0.5
    draws: ClassVar[int] = 1

    def chosen(self, u: Tensor) -> Tensor:
        """True for the clips (B,) that are flipped."""
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
        return _where_chosen(torch.where(eye.bool(), eye, entries), u, self.probability)


@dataclass(frozen=True)
class DropAxis:
    """Zeroes one of x, y, z for all frames, joints and bodies."""

    probability: float = 0.0
    draws: ClassVar[int] = 2

    def matrix(self, u: Tensor) -> Tensor:
        """Matrices (B, 3, 3) that zero a coordinate of column vectors."""
        dropped = _integers(u[:, 1:2], 3) == torch.arange(3, device=u.device)
        kept = torch.eye(3, device=u.device).masked_fill(rearrange(dropped, "b i -> b i 1"), 0)
        return _where_chosen(kept, u, self.probability)


# ---- Masks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpatialMask:
    """Multiplies by `weight` joints around `seeds` joints that are drawn with replacement, for all
    frames and bodies.

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
    weight: float = 0.0

    @property
    def draws(self) -> int:
        return 1 + self.seeds

    def hidden(self, u: Tensor, parents: tuple[int, ...]) -> Tensor:
        """True for the joints (B, V) of each clip that are masked."""
        count = len(parents)
        if not self.probability:
            return u.new_zeros((len(u), count), dtype=torch.bool)
        seeds = _integers(u[:, 1:], count)
        walks = _walks(parents, self.hops, u.device)[seeds].sum(1)
        match self.kind:
            case "top":
                if self.joints > count:
                    raise ValueError(f"{self.joints} joints to mask, the skeleton has {count}")
                mask = ~_smallest(walks, count - self.joints)
            case "neighbourhood":
                mask = walks > 0
            case _:
                options = ", ".join(SPATIAL_MASKS)
                raise ValueError(f"spatial mask is {self.kind!r}, must be one of {options}")
        return mask & _chosen(u, self.probability)[:, None]


@dataclass(frozen=True)
class TemporalMask:
    """Multiplies by `weight` some of the `blocks` equal blocks of frames, for all joints and
    bodies.

    `uniform` (released code): `masked` blocks, each as likely as any other. `energy`: `masked`
    blocks, drawn one after another in proportion to their motion among those left; where nothing
    moves, as in `uniform`. `threshold`: every block that moves more than the `quantile` of the
    view's blocks, whatever `masked` is; as many in each view, but for blocks that move alike. The
    motion of a block is the sum of its frames', as `motion` measures them.
    """

    probability: float = 0.5
    kind: str = "uniform"
    blocks: int = 16
    masked: int = 6
    quantile: float = 0.625
    weight: float = 0.0

    @property
    def draws(self) -> int:
        return 1 + self.blocks

    def hidden(self, u: Tensor, x: Tensor) -> Tensor:
        """True for the frames (B, T) of each of the views `x` (B, 3, T, V, M) that are masked."""
        size = x.shape[2]
        if not self.probability:
            return u.new_zeros((len(u), size), dtype=torch.bool)
        if size % self.blocks:
            raise ValueError(f"{size} frames do not divide into {self.blocks} blocks")
        if self.masked > self.blocks:
            raise ValueError(f"{self.masked} blocks to mask, a view has {self.blocks}")
        match self.kind:
            case "uniform":
                mask = _smallest(u[:, 1:], self.masked)
            case "energy":
                # The first of exponential waiting times of these rates: Efraimidis & Spirakis,
                # Information Processing Letters 97 (2006). The bounds keep both sides above zero.
                wait = (-torch.log1p(-u[:, 1:])).clamp(min=2.0**-25)
                mask = _smallest(wait / self._motion(x).clamp(min=1e-30), self.masked)
            case "threshold":
                moved = self._motion(x)
                below = int(self.quantile * (self.blocks - 1))
                mask = moved > moved.sort(dim=1).values[:, below : below + 1]
            case _:
                options = ", ".join(TEMPORAL_MASKS)
                raise ValueError(f"temporal mask is {self.kind!r}, must be one of {options}")
        mask = mask & _chosen(u, self.probability)[:, None]
        return repeat(mask, "b block -> b (block frame)", frame=size // self.blocks)

    def _motion(self, x: Tensor) -> Tensor:
        """The motion of each block (B, blocks), the sum of its frames'."""
        return reduce(motion(x), "b (block frame) -> b block", "sum", block=self.blocks)


def motion(x: Tensor) -> Tensor:
    """The motion in each frame (B, T) of views `x` (B, 3, T, V, M).

    The lengths of the displacements since the frame before, summed over joints and bodies; the
    first frame counts as much as the second. It is of the view as it would be seen without masks:
    resized, of its stream (of `motion`, the change of velocity), turned, scaled and sheared. A body
    that is absent lies at the origin, so that its coming and going counts as moving from and to it.
    """
    before_first = x[:, :, :2][:, :, -1:]  # the second, as far from the first as the first from it
    moved = x.diff(dim=2, prepend=before_first)
    return moved.square().sum(dim=1).sqrt().sum(dim=(2, 3))


MIXING = ("turn", "scale", "rotate", "shear", "drop_axis")  # coordinates, in the order of the steps


@dataclass(frozen=True)
class Augmentations:
    """The making of random views: crop, the steps `MIXING`, flip, masks."""

    crop: Crop = Crop()
    rotate: Rotate = Rotate()
    flip: Flip = Flip()
    shear: Shear = Shear()
    spatial_mask: SpatialMask = SpatialMask()
    temporal_mask: TemporalMask = TemporalMask()
    turn: Turn = Turn()
    scale: Scale = Scale()
    drop_axis: DropAxis = DropAxis()

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]]) -> "Augmentations":
        """From the settings of each by its name; one that is not there is switched off."""
        kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(cls)}
        off = {"probability": 0.0}
        return cls(**{name: kind(**settings.get(name, off)) for name, kind in kinds.items()})

    def draw(
        self, seed: int, epoch: int | Tensor, clips: Tensor, view: int | Tensor
    ) -> dict[str, Tensor]:
        """The uniform numbers (B, draws) of each augmentation, drawn in the order of the fields."""
        counts = {field.name: getattr(self, field.name).draws for field in fields(self)}
        numbers = uniforms(seed, epoch, clips, view, sum(counts.values()))
        return dict(zip(counts, numbers.split(list(counts.values()), dim=1), strict=True))

    def matrix(self, u: Mapping[str, Tensor]) -> Tensor | None:
        """Matrices (B, 3, 3) of the steps `MIXING` one after another, None if all are off."""
        on = [name for name in MIXING if getattr(self, name).probability]
        matrices = [getattr(self, name).matrix(u[name]) for name in on]
        return functools.reduce(lambda done, step: step @ done, matrices) if on else None


def _integers(u: Tensor, end: Tensor | int) -> Tensor:
    """Uniform integers from 0 to `end` - 1; `u` times `end` never rounds up to `end`."""
    return (u * end).long()


def _chosen(u: Tensor, probability: float) -> Tensor:
    """True for the clips (B,) that an augmentation is applied to, by the first of its draws."""
    return u[:, 0] < probability


def _where_chosen(matrix: Tensor, u: Tensor, probability: float) -> Tensor:
    """The matrices (B, 3, 3) where the augmentation is applied, elsewhere the identity."""
    chosen = rearrange(_chosen(u, probability), "b -> b 1 1")
    return torch.where(chosen, matrix, torch.eye(3, device=u.device))


def _rotations(degrees: Tensor) -> tuple[Tensor, ...]:
    """Matrices, each (B, 3, 3), that turn column vectors about x, y and z by `degrees` (B, 3)."""
    # Rodrigues' formula; axis a has the generator K with K_ij = epsilon_aij (a clockwise turn).
    eye = torch.eye(3, device=degrees.device)
    generator = torch.linalg.cross(eye[:, None], eye[None])
    angle = rearrange(torch.deg2rad(degrees), "b a -> b a 1 1")
    sin, cos = torch.sin(angle), torch.cos(angle)
    return (eye + sin * generator + (1 - cos) * generator @ generator).unbind(1)


def _smallest(values: Tensor, count: int) -> Tensor:
    """True for the `count` smallest of each row, of equal ones the first."""
    first = values.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter(1, first, True)


# Constants are kept on their device: a copy from the host would wait for all work queued there.
# They outlive the mode they are first used in, so they must not become inference tensors.


@functools.lru_cache
@torch.inference_mode(False)
def _walks(parents: tuple[int, ...], hops: int, device: torch.device) -> Tensor:
    """Number of walks of `hops` steps between joints: the paper's D = A^hops."""
    return torch.linalg.matrix_power(adjacency(parents), hops).to(device)
