"""Products of activations with weights and topologies, each by the kernel that is faster."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

ALIGNED = 8  # numbers, 16 bytes in bf16


def faster_as_convolution(x: Tensor) -> bool:
    """True if a product of `x` with weights is faster as a convolution: on a CPU in fp32.

    PyTorch gives matrix products to MKL and convolutions to oneDNN, which on an AMD EPYC is twice
    as fast (`make bench` times both).
    """
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def wants_aligned_rows(x: Tensor) -> bool:
    """True if matrix products are faster with rows of `ALIGNED` numbers, some unused: on a GPU."""
    return x.device.type != "cpu"


def multiply_each(matrix: Tensor, x: Tensor) -> Tensor:
    """The product of `matrix` (O, I) with each of `x` (N, I, P): (N, O, P)."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


class Pointwise(nn.Module):
    """A 1x1 convolution.

    `parts` convolutions of the same input may be stacked along the output channels; each is
    initialised by its own size (Kaiming, normal).
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
        # The backward pass of matrix products is the faster one for a small network.
        if faster_as_convolution(x) and not self.training:
            y = F.conv1d(flat, self.weight, self.bias)
        else:
            y = multiply_each(self.weight[:, :, 0], flat)
            if self.bias is not None:
                y += self.bias[:, None].to(y.dtype)  # adding mixed types is slow
        return y.unflatten(2, x.shape[2:])


class TokenLinear(nn.Linear):
    """A linear layer of tokens, computed as a 1x1 convolution where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, I) -> (B, tokens, O)."""
        if not faster_as_convolution(x):
            return super().forward(x)
        image = x.flatten(0, 1)[None, None].movedim(3, 1)  # (1, I, 1, B * tokens), channels last
        y = F.conv2d(image, self.weight[..., None, None], self.bias)
        return y.movedim(1, 3)[0, 0].unflatten(0, x.shape[:2])


def differences(query: Tensor, key: Tensor) -> Tensor:
    """Subtract the key of joint v from the query of joint u: (N, C, V), (N, C, V) -> (N, C, V, U).

    U is V, or more where rows are aligned: joints that nothing uses.
    """
    if wants_aligned_rows(query):
        query = F.pad(query, (0, -query.shape[2] % ALIGNED))
    return query[:, :, None, :] - key[:, :, :, None]


class Topology(NamedTuple):
    """Matrices (v, u) for each sample n, channel c and subset k, as sums of few that all channels
    share: `sum_s weight[c, k, s] * shared[n, s, v, u]`.

    Args:
        weight: (C, K, S).
        shared: (N, S, V, U).
    """

    weight: Tensor
    shared: Tensor

    def mix(self, values: Tensor, bias: Tensor) -> Tensor:
        """Sum `topology[n, c, k, v, u] * (values[n, c, k, v, t] + bias[c, k])` over k and v.

        (N, C * K, V, T), (C, K, 1) -> (N, C, V, T).
        """
        weight, shared = self
        samples, joints, subsets = len(values), values.shape[2], weight.shape[1]
        matrices = multiply_each(weight.flatten(0, 1), shared.flatten(2))
        matrices = rearrange(matrices, "n (c k) (v u) -> (n c) (k v) u", k=subsets, v=joints)
        values = rearrange(values, "n (c k) v t -> (n c) (k v) t", k=subsets)
        # The bias is constant in time, and so is its product with the topology.
        offset = multiply_each((bias * weight).sum(dim=1), shared.sum(dim=2))
        if wants_aligned_rows(values):
            mixed = _MixAligned.apply(matrices, values)
            mixed = rearrange(mixed, "(n c) u t -> n c u t", n=samples)
            return (mixed + offset[..., None])[:, :, :joints]
        mixed = _MixJoints.apply(rearrange(offset, "n c u -> (n c) u 1"), matrices, values)
        return rearrange(mixed, "(n c) u t -> n c u t", n=samples)


def refined(adjacency: Tensor, relation: Tensor, weight: Tensor, bias: Tensor) -> Topology:
    """The topology `adjacency[k, u, v] + sum_r weight[c, k, r] * relation[n, k, r, v, u] +
    bias[c, k]`.

    (K, U, V), (N, K * R, V, U), (C, K, R), (C, K, 1), where the relation may have more joints u.
    """
    subsets, joints = adjacency.shape[:2]
    fixed = torch.stack([torch.ones_like(adjacency), adjacency.mT], dim=1)
    fixed = F.pad(fixed, (0, relation.shape[3] - joints))
    shared = torch.cat(
        [
            rearrange(relation, "n (k r) v u -> n k r v u", k=subsets),
            fixed.expand(len(relation), -1, -1, -1, -1),
        ],
        dim=2,
    ).flatten(1, 2)
    weight = torch.cat([weight, bias, torch.ones_like(bias)], dim=2)
    weight = einsum(weight, torch.eye(subsets, device=weight.device), "c k r, k j -> c k j r")
    weight = weight.flatten(2)  # (C, k, j r), zero where r is of another subset
    if wants_aligned_rows(relation):
        weight = F.pad(weight, (0, -weight.shape[2] % ALIGNED))
        shared = F.pad(shared, (0, 0, 0, 0, 0, weight.shape[2] - shared.shape[1]))
    return Topology(weight, shared)


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
