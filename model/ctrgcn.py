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

from model.distributed import ranks, total
from model.graph import subsets

SUBSETS = 3
MOMENTUM = 0.1  # how fast the running statistics of a norm move towards a batch's
CACHED = 4 * (4 * 64 * 25 * 64)  # numbers in the widest activation: four bodies of the paper's


def _each(matrix: Tensor, x: Tensor) -> Tensor:
    """The product of `matrix` (O, I) with each of `x` (N, I, P): (N, O, P)."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


def convolves(x: Tensor) -> bool:
    """Whether `x` is better multiplied by weights as a convolution: on a CPU, in fp32.

    PyTorch gives products to MKL and convolutions to oneDNN, which on an AMD EPYC is twice as fast
    (`make bench` times both).
    """
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class Pointwise(nn.Module):
    """A 1x1 convolution; in training, or where `convolves` says no, one matrix product a sample.

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
        flat = x.flatten(2)
        if convolves(x) and not self.training:  # a small network trains faster with products
            y = F.conv1d(flat, self.weight, self.bias)
        else:
            y = _each(self.weight[:, :, 0], flat)
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


class _Normalise(torch.autograd.Function):
    """A batch norm with the statistics of more rows than it is given.

    Row r counts `1 + extra[r]` times, and the rows of all processes count. With w the count of a
    row, n the sum of all counts and y = (x - mean) / sqrt(variance + eps), the gradient at x is
    weight / sqrt(variance + eps) * (grad - w / n * (sum(grad) + y * sum(grad * y))).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, extra: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        """(N, C, V, T), (C,), (C,), (R,) -> (N, C, V, T), the mean and variance (C,), n ()."""
        zeros = torch.zeros_like(weight)
        mean, variance = torch.batch_norm_update_stats(x, zeros, zeros, 0.0)
        repeated = x[: len(extra)].to(mean.dtype)
        variances, means = torch.var_mean(repeated, dim=(2, 3), correction=0)
        means = torch.cat([mean[None], means]).double()
        squares = torch.cat([variance[None], variances]) + means.square()
        count = torch.cat([extra.new_tensor([len(x)]), extra]) * x[0, 0].numel()
        sums = einsum(
            count.double(),
            torch.stack([torch.ones_like(means), means, squares]),
            "r, moment r c -> moment c",
        )
        number, mean, square = total(sums)
        mean = mean / number
        variance = square / number - mean.square()
        mean, variance, number = (s.to(weight.dtype) for s in (mean, variance, number[0]))
        y, _, _ = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance, extra, number)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, number)
        return y, mean, variance, number

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, extra, number = ctx.saved_tensors
        grad, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        share = weight * (variance + ctx.eps).rsqrt() / number
        of_weight, of_bias = share * total(torch.stack([weight_grad, bias_grad]))
        through, _, _ = torch.native_batch_norm(
            x, of_weight, of_bias, mean, variance, False, 0.0, ctx.eps
        )
        through[: len(extra)] *= (1 + extra)[:, None, None, None]
        return grad.sub_(through), weight_grad, bias_grad, None, None


class Norm(nn.BatchNorm2d):
    """A batch norm of the whole batch: of all processes, and of every row that stands for many."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=MOMENTUM)

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """(N, C, V, T) -> (N, C, V, T). Row r of the first is one of `1 + extra[r]` equal ones."""
        if len(x) == 1:
            # On a CPU, the strides of a single row may pass for channels last while its gradient's
            # do not, and PyTorch then gives wrong gradients at weight and bias.
            x = x.contiguous()
        if not self.training or (extra is None and ranks() == 1):
            return super().forward(x)
        if extra is None:
            extra = self.weight.new_zeros(1)
        y, mean, variance, number = _Normalise.apply(x, self.weight, self.bias, extra, self.eps)
        for name, now in (("mean", mean), ("var", variance * (number / (number - 1)))):
            self.get_buffer(f"running_{name}").lerp_(now, MOMENTUM)
        self.get_buffer("num_batches_tracked").add_(1)
        return y


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


def _norm(channels: int, *, scale: float = 1.0, spread: float = 0.0) -> Norm:
    norm = Norm(channels)
    nn.init.normal_(norm.weight, mean=scale, std=spread)
    return norm


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

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """(N, C, V, T) -> (N, C, V, T)."""
        squeezed = self.squeeze_norm(self.squeeze(x), extra)
        near, far, peak = (branch.relu() for branch in squeezed.chunk(3, dim=1))
        return torch.cat(
            [
                self.near_norm(self.near(near), extra),
                self.far_norm(self.far(far), extra),
                self.pool_norm(_peak(peak), extra),
                self.same_norm(self.same(x), extra),
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
        self.over_norm = _norm(out_channels) if residual else None

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """(N, C_in, V, T) -> (N, C_out, V, T)."""
        y = self.graph_norm(self.graph(x), extra)
        y = y.add_(self.around_norm(self.around(x), extra)).relu_()
        z = self.temporal(y, extra)
        if self.over is not None and self.over_norm is not None:
            z = z.add_(self.over_norm(self.over(x), extra))
        return z.relu_()


class CTRGCN(nn.Module):
    """Three blocks, 3 -> width -> 4 width -> width channels, on every body by itself.

    Most clips have no second body. Those absent are all alike, zeros, and one of them is computed
    for all.
    """

    def __init__(self, parents: Sequence[int], *, bodies: int, width: int) -> None:
        super().__init__()
        self.bodies, self.width = bodies, width
        self.norm = Norm(bodies * len(parents) * 3)
        self.blocks = nn.ModuleList(
            [
                Block(3, width, parents, residual=False),
                Block(width, 4 * width, parents, residual=True),
                Block(4 * width, width, parents, residual=True),
            ]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, V, M) -> the features of R bodies, (R, width, V, T), and which of them are
        those of each body (B * M,).
        """
        y = self.norm(rearrange(x, "b c t v m -> b (m v c) 1 t"))
        y = rearrange(y, "b (m v c) 1 t -> (b m) c v t", m=self.bodies, c=3)
        rows = torch.arange(len(y), device=x.device)
        if self.bodies == 1 or torch.compiler.is_compiling():  # the compiler wants fixed shapes
            return self._features(y), rows
        absent = (x == 0).flatten(1, 3).all(dim=1)
        present = (~absent).flatten().nonzero()[:, 0]
        if len(y) - len(present) <= self.bodies:
            return self._features(y), rows
        # The norm of the input tells first bodies from second ones: one of each stands for all.
        places = rows[: self.bodies]
        first = absent.byte().argmax(dim=0) * self.bodies + places
        z = self._features(y[torch.cat([first, present])], absent.sum(dim=0) - 1.0)
        rows = places.repeat(len(x))
        rows[present] = torch.arange(self.bodies, len(z), device=x.device)
        return z, rows

    def _features(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled() or self.training or x.device.type != "cpu":
            return self._through(x.contiguous(), extra)
        # Nothing is kept for a backward pass: a few bodies at a time stay within a CPU's cache.
        widest = 4 * self.width * x[0, 0].numel()
        parts = x.split(max(CACHED // widest, 1))
        return torch.cat([self._through(part.contiguous(), extra) for part in parts])

    def _through(self, x: Tensor, extra: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, extra)
        return x


class Absorbed(nn.Module):
    """What is left of a norm that is part of the convolution before it."""

    def forward(self, x: Tensor, extra: Tensor | None = None) -> Tensor:
        """`x` as it is."""
        return x


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
        setattr(module, f"{conv}_norm", Absorbed())

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
        block.graph_norm = Absorbed()
    return network


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies by and then adds in evaluation mode."""
    assert isinstance(norm, Norm)
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.get_buffer("running_mean") * scale).detach()
