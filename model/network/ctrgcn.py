"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021), as SCD-Net
uses it.

Activations are (N, C, V, T) with time last, so that a 1x1 convolution, the product with a topology
and a convolution along time all read memory in order. A convolution before a batch norm has no
bias, which the norm would subtract again.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from model.network.absent_bodies import Plan
from model.network.norm import BatchNorm
from model.network.pointwise import Pointwise, multiply_each
from model.network.skeleton_graph import subsets

COORDINATES = 3
SUBSETS = 3
ALIGNED = 8  # numbers, 16 bytes in bf16
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


def wants_aligned_rows(x: Tensor) -> bool:
    """Whether matrix products are faster with rows of `ALIGNED` numbers, some unused: on a GPU."""
    return x.device.type != "cpu"


class _MixJoints(torch.autograd.Function):
    """`topology^T values + offset`, of every sample and channel.

    PyTorch's own backward pass computes the topology's gradient transposed and copies it, the
    largest array of a step, to transpose it back.
    """

    @staticmethod
    def forward(ctx: Any, offset: Tensor, topology: Tensor, values: Tensor) -> Tensor:
        """(B, U, 1), (B, V, U), (B, V, T) -> (B, U, T)."""
        ctx.save_for_backward(topology, values)
        return torch.baddbmm(offset.expand(-1, -1, values.shape[2]), topology.mT, values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        topology, values = ctx.saved_tensors
        (grad,) = grads
        return (
            grad.sum(dim=2, keepdim=True),
            torch.bmm(values, grad.mT),
            torch.bmm(topology, grad),
        )


class _MixAligned(torch.autograd.Function):
    """`topology^T values`, as `_MixJoints` but for the offset, which a compiler adds where the sum
    is read."""

    @staticmethod
    def forward(ctx: Any, topology: Tensor, values: Tensor) -> Tensor:
        """(B, V, U), (B, V, T) -> (B, U, T)."""
        ctx.save_for_backward(topology, values)
        return torch.bmm(topology.mT, values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        topology, values = ctx.saved_tensors
        return torch.bmm(values, grads[0].mT), torch.bmm(topology, grads[0])


def _batch_norm(channels: int, *, mean: float = 1.0, std: float = 0.0) -> BatchNorm:
    """A batch norm with normally distributed weights."""
    norm = BatchNorm(channels)
    nn.init.normal_(norm.weight, mean=mean, std=std)
    return norm


class GraphConvolution(nn.Module):
    """A graph convolution with a topology of its own for each clip and channel (section 3.2).

    The output at joint u is the sum over subsets k and joints v of
    `(A_k + alpha * M_k(tanh(Q_k x_u - R_k x_v))) * W_k x_v`, where Q and R see the average over
    time.
    """

    def __init__(self, in_channels: int, out_channels: int, parents: Sequence[int]) -> None:
        super().__init__()
        # An eighth of 3 channels, the coordinates, would be none.
        relation = 8 if in_channels == COORDINATES else max(in_channels // 8, 1)
        self.query, self.key = (
            Pointwise(in_channels, SUBSETS * relation, parts=SUBSETS, bias=True) for _ in range(2)
        )
        # A channel's subsets are adjacent: with the (joint, time) that follow, the values of a
        # channel are the matrix that its topology multiplies.
        self.value = Pointwise(in_channels, out_channels * SUBSETS, parts=SUBSETS)
        self.value_bias = nn.Parameter(torch.zeros(out_channels, SUBSETS, 1))
        self.refine = nn.Parameter(torch.empty(out_channels, SUBSETS, relation))
        self.refine_bias = nn.Parameter(torch.zeros(out_channels, SUBSETS, 1))
        nn.init.normal_(self.refine, std=math.sqrt(2 / out_channels))
        self.alpha = nn.Parameter(torch.zeros(1))
        self.adjacency = nn.Parameter(subsets(parents))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, V, T) -> (N, C_out, V, T)."""
        joints = x.shape[2]
        aligned = wants_aligned_rows(x)
        mean = x.mean(dim=3)
        query, key = self.query(mean), self.key(mean)
        if aligned:
            query = F.pad(query, (0, -joints % ALIGNED))  # joints u that nothing uses
        relation = torch.tanh(query[:, :, None, :] - key[:, :, :, None])
        # Each channel's topology is a weighted sum of the same few matrices (v, u) a subset: the
        # relations, ones (for the bias) and the adjacency.
        fixed = torch.stack([torch.ones_like(self.adjacency), self.adjacency.mT], dim=1)
        fixed = F.pad(fixed, (0, relation.shape[3] - joints))
        shared = torch.cat(
            [
                rearrange(relation, "n (k r) v u -> n k r v u", k=SUBSETS),
                fixed.expand(len(x), -1, -1, -1, -1),
            ],
            dim=2,
        ).flatten(1, 2)
        refine, bias = self.alpha * self.refine, self.alpha * self.refine_bias
        weight = torch.cat([refine, bias, torch.ones_like(bias)], dim=2)
        weight = einsum(weight, torch.eye(SUBSETS, device=x.device), "c k r, k j -> c k j r")
        weight = weight.flatten(2)  # (C_out, k, r), zero where r is of another subset
        if aligned:
            weight = F.pad(weight, (0, -weight.shape[2] % ALIGNED))
            shared = F.pad(shared, (0, 0, 0, 0, 0, weight.shape[2] - shared.shape[1]))
        topology = multiply_each(weight.flatten(0, 1), shared.flatten(2))
        topology = rearrange(topology, "n (c k) (v u) -> (n c) (k v) u", k=SUBSETS, v=joints)
        values = rearrange(self.value(x), "n (c k) v t -> (n c) (k v) t", k=SUBSETS)
        # The values' bias is constant in time, and so is its product with the topology.
        offset = multiply_each((self.value_bias * weight).sum(dim=1), shared.sum(dim=2))
        if aligned:
            mixed = rearrange(_MixAligned.apply(topology, values), "(n c) u t -> n c u t", n=len(x))
            return (mixed + offset[..., None])[:, :, :joints]
        mixed = _MixJoints.apply(rearrange(offset, "n c u -> (n c) u 1"), topology, values)
        return rearrange(mixed, "(n c) u t -> n c u t", n=len(x))


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

    def forward(self, x: Tensor, plan: Plan | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, 3, T, V, M) -> the features (R, width, V, T) of the R bodies that were computed, and
        the row (B * M,) among them of each body of the batch; None where all were computed, or as
        the plan says.

        `plan` says which bodies are computed. Without one, those that are present, and one that is
        not: on a GPU in evaluation only, since it waits to know how many there are.
        """
        y = self.norm(rearrange(x, "b c t v m -> b (m v c) 1 t"))
        y = rearrange(y, "b (m v c) 1 t -> (b m) c v t", m=self.bodies, c=3)
        if plan is not None:
            return self._features(plan.select(y), plan.repeats), None
        waits = torch.compiler.is_compiling() or (self.training and x.device.type != "cpu")
        if self.bodies == 1 or waits:
            return self._features(y), None
        absent = (x == 0).flatten(1, 3).all(dim=1)
        present = (~absent).flatten().nonzero()[:, 0]
        if len(y) - len(present) <= self.bodies:
            return self._features(y), None
        # The input's norm treats first and second bodies differently: one of each is computed.
        places = torch.arange(self.bodies, device=x.device)
        first = absent.byte().argmax(dim=0) * self.bodies + places
        z = self._features(y[torch.cat([first, present])], absent.sum(dim=0) - 1.0)
        rows = places.repeat(len(x))
        rows[present] = torch.arange(self.bodies, len(z), device=x.device)
        return z, rows

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
