"""The skeleton as a graph: `parents[j]` is the joint that `j` hangs from, the root its own."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
