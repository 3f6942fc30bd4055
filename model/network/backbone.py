"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021), as SCD-Net
uses it.

Activations are (N, C, V, T) with time last, so that a 1x1 convolution, the product with a topology
and a convolution along time all read memory in order. A convolution before a batch norm has no
bias, which the norm would subtract again.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model.network import absent_bodies
from model.network.absent_bodies import Found, Plan
from model.network.graph_convolution import COORDINATES, GraphConvolution
from model.network.norm import BatchNorm
from model.network.products import Pointwise

ROUNDING = 1e-3  # a smaller activation may be a rounding error, where the variance is 1
CACHED = 4 * (4 * 64 * 25 * 64)  # numbers of the widest activation, of 4 bodies at the paper's size


def _temporal_convolution(channels: int, *, kernel: int, dilation: int) -> nn.Conv2d:
    conv = nn.Conv2d(
        channels,
        channels,
        kernel_size=(1, kernel),
        padding=(0, dilation * (kernel // 2)),
        dilation=(1, dilation),
        bias=False,
    )
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (channels * kernel)))
    return conv


def _max_pool(x: Tensor) -> Tensor:
    """Max-pooling of 3 along time, the last dimension."""
    if torch.is_grad_enabled():
        return F.max_pool2d(x, kernel_size=(1, 3), stride=1, padding=(0, 1))
    # The indices are for a backward pass, and finding them takes most of the time on a CPU.
    wider = F.pad(x, (1, 1), value=-math.inf)
    return torch.maximum(wider[..., :-2], x).maximum(wider[..., 2:])


def _batch_norm(channels: int, *, mean: float = 1.0, std: float = 0.0) -> BatchNorm:
    """A batch norm with normally distributed weights."""
    norm = BatchNorm(channels)
    nn.init.normal_(norm.weight, mean=mean, std=std)
    return norm


class TemporalConvolution(nn.Module):
    """Four branches: along time, kernel 5 with dilation 1 and 2 and max-pool 3; and pointwise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        branch = channels // 4
        self.squeeze = Pointwise(channels, 3 * branch, parts=3)
        self.squeeze_norm = _batch_norm(3 * branch, std=0.02)
        self.dilation1, self.dilation2 = (
            _temporal_convolution(branch, kernel=5, dilation=dilation) for dilation in (1, 2)
        )
        self.pointwise = Pointwise(channels, branch)
        self.dilation1_norm, self.dilation2_norm, self.pool_norm, self.pointwise_norm = (
            _batch_norm(branch, std=0.02) for _ in range(4)
        )

    def forward(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        """(N, C, V, T) -> (N, C, V, T)."""
        squeezed = self.squeeze_norm(self.squeeze(x), repeats)
        first, second, third = (branch.relu() for branch in squeezed.chunk(3, dim=1))
        return torch.cat(
            [
                self.dilation1_norm(self.dilation1(first), repeats),
                self.dilation2_norm(self.dilation2(second), repeats),
                self.pool_norm(_max_pool(third), repeats),
                self.pointwise_norm(self.pointwise(x), repeats),
            ],
            dim=1,
        )


def _relu_at_zero_input(y: Tensor, x: Tensor) -> Tensor:
    """ReLU of `y` (N, C, V, T), in place; where a row of `x` is zero, rounding does not decide the
    gradient.

    Until the first step the input's norm has no bias, so a body that no clip of the batch has stays
    zero. All other rows are normalised, and the first graph convolution is still linear, so the
    means that its norms subtract are zero but for rounding: `y` of the absent body is at the ReLU's
    kink, and the sign of a rounding error would decide which channels have a gradient. Such a value
    counts as the zero that it is, and the gradient of a ReLU at zero is zero.
    """
    zero = (x == 0).flatten(1).all(dim=1)
    # Masking costs time on a CPU, which can look whether there is such a row; a GPU would wait.
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and not zero.any():
        return y.relu_()
    return y.masked_fill_(y <= ROUNDING * zero[:, None, None, None], 0)


class Block(nn.Module):
    """A graph convolution with a residual, then a temporal convolution, with or without one."""

    def __init__(
        self, in_channels: int, out_channels: int, parents: Sequence[int], *, residual: bool
    ) -> None:
        super().__init__()
        self.graph = GraphConvolution(in_channels, out_channels, parents)
        self.graph_norm: nn.Module = _batch_norm(out_channels, mean=1e-6)
        self.graph_residual = Pointwise(in_channels, out_channels)
        self.graph_residual_norm = _batch_norm(out_channels)
        self.temporal = TemporalConvolution(out_channels)
        self.takes_coordinates = in_channels == COORDINATES
        self.has_residual = residual
        if residual:
            self.residual = Pointwise(in_channels, out_channels)
            self.residual_norm = _batch_norm(out_channels)

    def forward(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        """(N, C_in, V, T) -> (N, C_out, V, T)."""
        y = self.graph_norm(self.graph(x), repeats)
        y = y.add_(self.graph_residual_norm(self.graph_residual(x), repeats))
        y = _relu_at_zero_input(y, x) if self.takes_coordinates and self.training else y.relu_()
        z = self.temporal(y, repeats)
        if self.has_residual:
            z = z.add_(self.residual_norm(self.residual(x), repeats))
        return z.relu_()


class CTRGCN(nn.Module):
    """Three blocks, 3 -> width -> 4 width -> width channels, applied to each body separately.

    Most clips have no second body. An absent body is all zeros, so one of them is computed for all.
    """

    def __init__(self, parents: Sequence[int], *, bodies: int, width: int) -> None:
        super().__init__()
        self.bodies, self.width = bodies, width
        self.norm = BatchNorm(bodies * len(parents) * 3)
        self.blocks = nn.ModuleList(
            [
                Block(3, width, parents, residual=False),
                Block(width, 4 * width, parents, residual=True),
                Block(4 * width, width, parents, residual=True),
            ]
        )

    def forward(self, x: Tensor, plan: Plan | None = None) -> tuple[Tensor, Found | None]:
        """(B, 3, T, V, M) -> the features (R, width, V, T) of the bodies that are computed, and
        which these are, if there is no plan and not all are.

        `plan` says which bodies are computed. Without one, those that are present, and one that is
        not: on a GPU in evaluation only, since it waits to know how many there are.
        """
        y = self.norm(rearrange(x, "b c t v m -> b (m v c) 1 t"))
        y = rearrange(y, "b (m v c) 1 t -> (b m) c v t", m=self.bodies, c=3)
        waits = torch.compiler.is_compiling() or (self.training and x.device.type != "cpu")
        found = None if plan or waits else absent_bodies.find(x)
        if bodies := plan or found:
            return self._features(bodies.select(y), bodies.repeats), found
        return self._features(y), None

    def _features(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled() or self.training or x.device.type != "cpu":
            return self._blocks(x.contiguous(), repeats)
        # No backward pass needs the activations: those of a few bodies stay within a CPU's cache.
        widest = 4 * self.width * x[0, 0].numel()
        parts = x.split(max(CACHED // widest, 1))
        return torch.cat([self._blocks(part.contiguous(), repeats) for part in parts])

    def _blocks(self, x: Tensor, repeats: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, repeats)
        return x
