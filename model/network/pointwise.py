"""1x1 convolutions and linear layers, each computed by whichever kernel is faster."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def faster_as_convolution(x: Tensor) -> bool:
    """Whether a product of `x` with weights is faster as a convolution: on a CPU in fp32.

    PyTorch gives matrix products to MKL and convolutions to oneDNN, which on an AMD EPYC is twice
    as fast (`make bench` times both).
    """
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


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
