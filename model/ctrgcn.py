"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021), as SCD-Net
uses it.

Activations are (N, C, V, T) with time last, so that a 1x1 convolution, the product with a topology
and a convolution along time all read memory in order. A convolution before a batch norm has no bias
because the norm would take it away again.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from model.graph import subsets

SUBSETS = 3
CACHED = 4 * (4 * 64 * 25 * 64)  # numbers in the widest activation: four bodies of the paper's


def _each(matrix: Tensor, x: Tensor) -> Tensor:
    """The product of `matrix` (O, I) with each of `x` (N, I, P): (N, O, P)."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


class Pointwise(nn.Module):
    """A 1x1 convolution, as one matrix product a sample: on CPUs twice as fast as Conv2d.

    `parts` convolutions that share their input may be laid end to end; each has its own Kaiming
    start.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, parts: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1))
        nn.init.normal_(self.weight, std=math.sqrt(2 * parts / out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, ...) -> (N, C_out, ...)."""
        y = _each(self.weight[:, :, 0], x.flatten(2))
        if self.bias is not None:
            y += self.bias[:, None].to(y.dtype)  # mixed types add slowly
        return y.unflatten(2, x.shape[2:])


def _along_time(channels: int, *, kernel: int, dilation: int) -> nn.Conv2d:
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


def _peak(x: Tensor) -> Tensor:
    """The largest of every value and its two neighbours in time, the last dimension."""
    if torch.is_grad_enabled():
        return F.max_pool2d(x, kernel_size=(1, 3), stride=1, padding=(0, 1))
    # The pool's places are for a backward pass, and finding them takes most of its time on a CPU.
    wider = F.pad(x, (1, 1), value=-math.inf)
    return torch.maximum(wider[..., :-2], x).maximum(wider[..., 2:])


def _norm(channels: int, *, scale: float = 1.0, spread: float = 0.0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, mean=scale, std=spread)
    return norm


class _Mix(torch.autograd.Function):
    """`topology^T values + offset`, of every sample and channel.

    PyTorch's own backward pass makes the topology's gradient transposed and then copies it, the
    largest array of a step, to turn it.
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


class GraphConvolution(nn.Module):
    """Mixes joints with a topology that is refined for each clip and channel (section 3.2 of the
    paper).

    The output at joint u is the sum over subsets k and joints v of
    `(A_k + alpha * M_k(tanh(Q_k x_u - R_k x_v))) * W_k x_v`, where Q and R see the average over
    time.
    """

    def __init__(self, in_channels: int, out_channels: int, parents: Sequence[int]) -> None:
        super().__init__()
        # Three channels are raw coordinates, which an eighth would leave empty.
        relation = 8 if in_channels == 3 else max(in_channels // 8, 1)
        self.query, self.key = (
            Pointwise(in_channels, SUBSETS * relation, parts=SUBSETS, bias=True) for _ in range(2)
        )
        # A channel's subsets lie side by side: with (joint, time) that follow, the values of a
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
        mean = x.mean(dim=3)
        relation = torch.tanh(self.query(mean)[:, :, None, :] - self.key(mean)[:, :, :, None])
        # All channels' topologies are sums of the same few matrices, with weights of their own:
        # the relations, ones (for the bias) and the adjacency, (v, u) of each subset.
        fixed = torch.stack([torch.ones_like(self.adjacency), self.adjacency.mT], dim=1)
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
        topology = _each(weight.flatten(0, 1), shared.flatten(2))
        # The values' bias is the same at all times, and so is what the topology makes of it.
        offset = _each((self.value_bias * weight).sum(dim=1), shared.sum(dim=2))
        mixed = _Mix.apply(
            rearrange(offset, "n c u -> (n c) u 1"),
            rearrange(topology, "n (c k) (v u) -> (n c) (k v) u", k=SUBSETS, v=x.shape[2]),
            rearrange(self.value(x), "n (c k) v t -> (n c) (k v) t", k=SUBSETS),
        )
        return rearrange(mixed, "(n c) u t -> n c u t", n=len(x))


class TemporalConvolution(nn.Module):
    """Four branches along time: kernel 5 with dilation 1 and 2, max-pool 3, and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        branch = channels // 4
        self.squeeze = Pointwise(channels, 3 * branch, parts=3)
        self.squeeze_norm = _norm(3 * branch, spread=0.02)
        self.near, self.far = (_along_time(branch, kernel=5, dilation=d) for d in (1, 2))
        self.same = Pointwise(channels, branch)
        self.near_norm, self.far_norm, self.pool_norm, self.same_norm = (
            _norm(branch, spread=0.02) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, V, T) -> (N, C, V, T)."""
        near, far, peak = (b.relu() for b in self.squeeze_norm(self.squeeze(x)).chunk(3, dim=1))
        return torch.cat(
            [
                self.near_norm(self.near(near)),
                self.far_norm(self.far(far)),
                self.pool_norm(_peak(peak)),
                self.same_norm(self.same(x)),
            ],
            dim=1,
        )


class Block(nn.Module):
    """Graph convolution, then temporal convolution, each with a residual."""

    def __init__(
        self, in_channels: int, out_channels: int, parents: Sequence[int], *, residual: bool
    ) -> None:
        super().__init__()
        self.graph = GraphConvolution(in_channels, out_channels, parents)
        self.graph_norm: nn.Module = _norm(out_channels, scale=1e-6)
        self.around = Pointwise(in_channels, out_channels)
        self.around_norm = _norm(out_channels)
        self.temporal = TemporalConvolution(out_channels)
        self.over = Pointwise(in_channels, out_channels) if residual else None
        self.over_norm = _norm(out_channels) if residual else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, V, T) -> (N, C_out, V, T)."""
        y = self.graph_norm(self.graph(x)).add_(self.around_norm(self.around(x))).relu_()
        z = self.temporal(y)
        if self.over is not None:
            z = z.add_(self.over_norm(self.over(x)))
        return z.relu_()


class CTRGCN(nn.Module):
    """Three blocks, 3 -> width -> 4 width -> width channels, on every body by itself."""

    def __init__(self, parents: Sequence[int], *, bodies: int, width: int) -> None:
        super().__init__()
        self.bodies, self.width = bodies, width
        self.norm = nn.BatchNorm1d(bodies * len(parents) * 3)
        self.blocks = nn.Sequential(
            Block(3, width, parents, residual=False),
            Block(width, 4 * width, parents, residual=True),
            Block(4 * width, width, parents, residual=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B * M, width, V, T)."""
        x = self.norm(rearrange(x, "b c t v m -> b (m v c) t"))
        x = rearrange(x, "b (m v c) t -> (b m) c v t", m=self.bodies, c=3)
        if torch.is_grad_enabled() or self.training or x.device.type != "cpu":
            return self.blocks(x.contiguous())
        # Nothing is kept for a backward pass: a few bodies at a time stay within a CPU's cache.
        widest = 4 * self.width * x[0, 0].numel()
        parts = x.split(max(CACHED // widest, 1))
        return torch.cat([self.blocks(part.contiguous()) for part in parts])


def folded(network: CTRGCN) -> CTRGCN:
    """A copy for inference alone: batch norms become part of the convolutions before them.

    With s = weight / sqrt(variance + eps), norm(W x) = (s W) x + (bias - s mean). The norms of the
    input and after the max-pool have no convolution before them and stay.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)

    def absorb(module: nn.Module, conv: str) -> None:
        scale, shift = _affine(module.get_submodule(f"{conv}_norm"))
        before = module.get_submodule(conv)
        assert isinstance(before, Pointwise | nn.Conv2d)
        before.weight.mul_(scale.reshape(-1, *[1] * (before.weight.dim() - 1)))
        before.bias = nn.Parameter(shift, requires_grad=False)
        setattr(module, f"{conv}_norm", nn.Identity())

    for block in network.blocks:
        assert isinstance(block, Block)
        for conv in ("squeeze", "near", "far", "same"):
            absorb(block.temporal, conv)
        absorb(block, "around")
        assert block.around.bias is not None
        if block.over is not None:
            absorb(block, "over")
        scale, shift = _affine(block.graph_norm)
        block.graph.value.weight.mul_(scale.repeat_interleave(SUBSETS)[:, None, None])
        block.graph.value_bias.mul_(scale[:, None, None])
        block.around.bias.add_(shift)  # is added to what the graph convolution gives
        block.graph_norm = nn.Identity()
    return network


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies by and then adds in evaluation mode."""
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.get_buffer("running_mean") * scale).detach()
