"""Fold batch norms into the convolutions before them, for inference.

With s = weight / sqrt(variance + eps), norm(W x) = (s W) x + (bias - s mean). The norms of the
input and after the max-pool have no convolution before them and stay.
"""

import copy

from torch import Tensor, nn

from model.network.backbone import Block
from model.network.encoder import Encoder
from model.network.graph_convolution import SUBSETS
from model.network.norm import BatchNorm, FoldedBatchNorm
from model.network.products import Pointwise


def folded(encoder: Encoder) -> Encoder:
    """A copy with folded batch norms, in evaluation mode: faster, for inference only."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    for domain in (encoder.temporal, encoder.spatial):
        for block in domain.features.blocks:
            assert isinstance(block, Block)
            _fold_block(block)
    return encoder


def _fold_block(block: Block) -> None:
    for conv in ("squeeze", "dilation1", "dilation2", "pointwise"):
        _fold(block.temporal, conv)
    _fold(block, "graph_residual")
    if block.has_residual:
        _fold(block, "residual")
    # The graph convolution is linear in its values; its shift goes to the residual it is added to.
    scale, shift = _affine(block.graph_norm)
    block.graph.value.weight.mul_(scale.repeat_interleave(SUBSETS)[:, None, None])
    block.graph.value_bias.mul_(scale[:, None, None])
    assert block.graph_residual.bias is not None
    block.graph_residual.bias.add_(shift)
    block.graph_norm = FoldedBatchNorm()


def _fold(module: nn.Module, conv: str) -> None:
    """Fold the norm `<conv>_norm` of `module` into its convolution `conv`."""
    scale, shift = _affine(module.get_submodule(f"{conv}_norm"))
    before = module.get_submodule(conv)
    assert isinstance(before, Pointwise | nn.Conv2d)
    before.weight.mul_(scale.reshape(-1, *[1] * (before.weight.dim() - 1)))
    before.bias = nn.Parameter(shift, requires_grad=False)
    setattr(module, f"{conv}_norm", FoldedBatchNorm())


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The factor and the shift of a batch norm in evaluation mode, each (C,)."""
    assert isinstance(norm, BatchNorm)
    scale = norm.weight / (norm.get_buffer("running_var") + norm.eps).sqrt()
    return scale.detach(), (norm.bias - norm.get_buffer("running_mean") * scale).detach()
