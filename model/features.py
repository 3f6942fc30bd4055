"""What a frozen network says of clips: batched inference on evaluation views."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from model.views import evaluation_view, stream


@torch.inference_mode()
def extract(
    network: Callable[[Tensor], Tensor],
    frames: Tensor,
    offsets: Tensor,
    clips: Tensor,
    *,
    size: int,
    kind: str,
    parents: Sequence[int],
    keep: float,
    batch: int,
    progress: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """`network` of the evaluation view of each of `clips` (N,), as (N, D) float32 on the CPU.

    `frames` (F, M, V, 3) and `offsets` (clips + 1,) are the dataset's, on the network's device. A
    module must be in evaluation mode, where a row depends on its own clip alone.
    """
    rows = []
    for some in progress(clips.to(frames.device).split(batch)):
        view = evaluation_view(frames, offsets, some, size, keep)
        rows.append(network(stream(view, kind, tuple(parents))).float().cpu())
    return torch.cat(rows)
