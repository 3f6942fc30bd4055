"""A batch norm whose statistics cover all processes and rows that are computed once for many."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor, nn

from machine.devices.distributed import ranks, total

MOMENTUM = 0.1  # of the running statistics


class _WeightedBatchNorm(torch.autograd.Function):
    """Batch normalisation with the statistics of more rows than it is given.

    Row r counts `1 + repeats[r]` times, and the rows of all processes count. With w the count of a
    row, n the sum of all counts and y = (x - mean) / sqrt(variance + eps), the gradient at x is
    weight / sqrt(variance + eps) * (grad - w / n * (sum(grad) + y * sum(grad * y))).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, repeats: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        """(N, C, V, T), (C,), (C,), (R,) -> (N, C, V, T), the mean and variance (C,), n ()."""
        zeros = torch.zeros_like(weight)
        mean, variance = torch.batch_norm_update_stats(x, zeros, zeros, 0.0)
        repeated = x[: len(repeats)].to(mean.dtype)
        variances, means = torch.var_mean(repeated, dim=(2, 3), correction=0)
        means = torch.cat([mean[None], means]).double()
        squares = torch.cat([variance[None], variances]) + means.square()
        count = torch.cat([repeats.new_tensor([len(x)]), repeats]) * x[0, 0].numel()
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
        ctx.save_for_backward(x, weight, mean, variance, repeats, number)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, number)
        return y, mean, variance, number

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, repeats, number = ctx.saved_tensors
        grad, weight_grad, bias_grad = torch.ops.aten.native_batch_norm_backward(
            grads[0], x, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        share = weight * (variance + ctx.eps).rsqrt() / number
        of_weight, of_bias = share * total(torch.stack([weight_grad, bias_grad]))
        through, _, _ = torch.native_batch_norm(
            x, of_weight, of_bias, mean, variance, False, 0.0, ctx.eps
        )
        through[: len(repeats)] *= (1 + repeats)[:, None, None, None]
        return grad.sub_(through), weight_grad, bias_grad, None, None


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the rows of all processes and the rows that repeat others."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=MOMENTUM)

    def forward(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        """(N, C, V, T) -> (N, C, V, T).

        `repeats` (R,) says of each of the first R rows how many more rows equal it and are not
        computed; -1 leaves the row itself out of the statistics, too.
        """
        if len(x) == 1:
            # On a CPU, the strides of a single row may pass for channels last while its gradient's
            # do not, and PyTorch then gives wrong gradients of weight and bias.
            x = x.contiguous()
        if not self.training or (repeats is None and ranks() == 1):
            return super().forward(x)
        if repeats is None:
            repeats = self.weight.new_zeros(1)
        if torch.compiler.is_compiling() and ranks() == 1:
            y, mean, variance, number = self._in_plain_operations(x, repeats)
        else:
            y, mean, variance, number = _WeightedBatchNorm.apply(
                x, self.weight, self.bias, repeats, self.eps
            )
        unbiased = variance * (number / (number - 1))
        for name, statistic in (("running_mean", mean), ("running_var", unbiased)):
            self.get_buffer(name).lerp_(statistic, MOMENTUM)
        self.get_buffer("num_batches_tracked").add_(1)
        return y

    def _in_plain_operations(self, x: Tensor, repeats: Tensor) -> tuple[Tensor, ...]:
        """Compute `_WeightedBatchNorm` as a compiler fuses it best: in one pass for the sums of the
        deviations from the running mean and of their squares, and one for the result.
        """
        counts = F.pad(repeats.to(self.weight.dtype), (0, len(x) - len(repeats))) + 1
        number = counts.sum() * x[0, 0].numel()
        share = (counts / number)[:, None, None, None]
        origin = self.get_buffer("running_mean").clone()
        deviation = x.to(origin.dtype) - origin[:, None, None]
        shift = (share * deviation).sum(dim=(0, 2, 3))
        variance = (share * deviation.square()).sum(dim=(0, 2, 3)) - shift.square()
        scale = self.weight * (variance + self.eps).rsqrt()
        y = (deviation - shift[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        mean = (origin + shift).detach()
        return y.to(x.dtype), mean, variance.detach(), number


class FoldedBatchNorm(nn.Module):
    """Identity in place of a batch norm that was folded into the convolution before it."""

    def forward(self, x: Tensor, repeats: Tensor | None = None) -> Tensor:
        """Return `x`."""
        return x
