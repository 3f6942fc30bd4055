"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021), as SCD-Net
uses it.

Convolutions that read the same input are one convolution here, and a mean over time is taken before
a 1x1 convolution instead of after it: the same mathematics with fewer and larger operations.
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from model.graph import subsets

SUBSETS = 3


def _conv(in_channels: int, *out_channels: int, kernel: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolutions along time that share an input, as one, each with its own Kaiming start."""
    conv = nn.Conv2d(
        in_channels,
        sum(out_channels),
        kernel_size=(kernel, 1),
        padding=(dilation * (kernel // 2), 0),
        dilation=(dilation, 1),
    )
    for part in conv.weight.split(out_channels):
        nn.init.normal_(part, std=math.sqrt(2 / (part.shape[0] * kernel)))
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _norm(channels: int, *, scale: float = 1.0, spread: float = 0.0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.weight, mean=scale, std=spread)
    return norm


class GraphConvolution(nn.Module):
    """Mixes joints with a topology that is refined for each clip and channel (section 3.2 of the
    paper).

    The topology of subset k is `A_k + alpha * M_k(tanh(Q_k x - R_k x'))`, where x and x' are the
    time averages of two joints, and is applied to `W_k x`. `forward` takes the 1x1-convolved input
    (see `Block`) and the input's average over time.
    """

    def __init__(self, in_channels: int, out_channels: int, parents: Sequence[int]) -> None:
        super().__init__()
        # Three channels are raw coordinates, which an eighth would leave empty.
        relation = 8 if in_channels == 3 else max(in_channels // 8, 1)
        self.relate = _conv(in_channels, *[relation] * 2 * SUBSETS)
        self.refine = nn.ModuleList(_conv(relation, out_channels) for _ in range(SUBSETS))
        self.alpha = nn.Parameter(torch.zeros(1))
        self.adjacency = nn.Parameter(subsets(parents))

    def forward(self, values: Tensor, mean: Tensor) -> Tensor:
        """values (N, 3 * C_out, T, V), mean (N, C_in, 1, V) -> (N, C_out, T, V)."""
        query, key = rearrange(self.relate(mean), "n (s k c) 1 v -> s k n c v", s=2, k=SUBSETS)
        relation = torch.tanh(query[..., :, None] - key[..., None, :])
        refinement = torch.stack([m(r) for m, r in zip(self.refine, relation, strict=True)], dim=2)
        topology = self.alpha * refinement + self.adjacency
        return torch.matmul(
            rearrange(values, "n (k c) t v -> n c t (k v)", k=SUBSETS),
            rearrange(topology, "n c k u v -> n c (k v) u"),
        )


class TemporalConvolution(nn.Module):
    """Four branches along time: kernel 5 with dilation 1 and 2, max-pool 3, and the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        branch = channels // 4
        self.squeeze = _conv(channels, *[branch] * 4)
        self.squeeze_norm = _norm(channels, spread=0.02)
        self.dilated = nn.ModuleList(
            _conv(branch, branch, kernel=5, dilation=dilation) for dilation in (1, 2)
        )
        self.pool = nn.MaxPool2d(kernel_size=(3, 1), stride=1, padding=(1, 0))
        self.norm = _norm(3 * branch, spread=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V) -> (N, C, T, V)."""
        near, far, peak, same = self.squeeze_norm(self.squeeze(x)).chunk(4, dim=1)
        near, far, peak = near.relu(), far.relu(), peak.relu()
        mixed = [self.dilated[0](near), self.dilated[1](far), self.pool(peak)]
        return torch.cat([self.norm(torch.cat(mixed, dim=1)), same], dim=1)


class Block(nn.Module):
    """Graph convolution, then temporal convolution, each with a residual."""

    def __init__(
        self, in_channels: int, out_channels: int, parents: Sequence[int], *, residual: bool
    ) -> None:
        super().__init__()
        # What the graph convolution mixes, its residual and the block's residual all read the input
        # once.
        self.parts = [SUBSETS * out_channels, out_channels] + [out_channels] * residual
        self.read = _conv(in_channels, *[out_channels] * (SUBSETS + 1 + residual))
        self.residual_norm = _norm(sum(self.parts[1:]))
        self.graph = GraphConvolution(in_channels, out_channels, parents)
        self.graph_norm = _norm(out_channels, scale=1e-6)
        self.temporal = TemporalConvolution(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, T, V) -> (N, C_out, T, V)."""
        values, residuals = self.read(x).split([self.parts[0], sum(self.parts[1:])], dim=1)
        around, *over = self.residual_norm(residuals).split(self.parts[1:], dim=1)
        mixed = self.graph(values, x.mean(dim=2, keepdim=True))
        y = torch.relu(self.graph_norm(mixed) + around)
        return torch.relu(sum(over, start=self.temporal(y)))


class CTRGCN(nn.Module):
    """Three blocks, 3 -> width -> 4 width -> width channels, on every body by itself."""

    def __init__(self, parents: Sequence[int], *, bodies: int, width: int) -> None:
        super().__init__()
        self.bodies = bodies
        self.norm = nn.BatchNorm1d(bodies * len(parents) * 3)
        self.blocks = nn.Sequential(
            Block(3, width, parents, residual=False),
            Block(width, 4 * width, parents, residual=True),
            Block(4 * width, width, parents, residual=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B * M, width, T, V)."""
        x = self.norm(rearrange(x, "b c t v m -> b (m v c) t"))
        x = rearrange(x, "b (m v c) t -> (b m) c t v", m=self.bodies, c=3)
        return self.blocks(x)
