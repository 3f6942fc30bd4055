"""The graph convolution of CTR-GCN (Chen et al., ICCV 2021) and the skeleton as its graph.

`parents[j]` is the joint that `j` hangs from, the root its own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.network.products import Pointwise, differences, refined

COORDINATES = 3
SUBSETS = 3


class GraphConvolution(nn.Module):
    """Channel-wise topology refinement graph convolution (CTR-GCN, section 3.2).

    The output at joint u is the sum over subsets k and joints v of
    `(A_k + alpha * M_k(tanh(Q_k x_u - R_k x_v))) * W_k x_v`, where Q (`query`) and R (`key`) see
    the average over time, M is `refine` and W is `value`.
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
        mean = x.mean(dim=3)
        relation = torch.tanh(differences(self.query(mean), self.key(mean)))
        refine, bias = self.alpha * self.refine, self.alpha * self.refine_bias
        topology = refined(self.adjacency, relation, refine, bias)
        return topology.mix(self.value(x), self.value_bias)


def subsets(parents: Sequence[int]) -> Tensor:
    """The three adjacency subsets of a skeleton: self, inward and outward (ST-GCN, spatial
    configuration).

    Returns (3, V, V) float32, `[k, u, v]` the weight with which joint v reaches joint u. Inward
    edges lead from a joint to its parent, outward ones back; every column that has an entry sums to
    1.
    """
    joints = len(parents)
    inward = torch.zeros(joints, joints)
    for joint, parent in enumerate(parents):
        if joint != parent:
            inward[parent, joint] = 1
    outward = inward.T / inward.T.sum(0).clamp(min=1)
    return torch.stack([torch.eye(joints), inward, outward])


def adjacency(parents: Sequence[int]) -> Tensor:
    """The skeleton's adjacency (V, V): bones in both directions and a self-link for each joint."""
    matrix = torch.eye(len(parents))
    for joint, parent in enumerate(parents):
        matrix[joint, parent] = matrix[parent, joint] = 1
    return matrix
