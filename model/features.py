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
    device: torch.device | None = None,
    progress: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """`network` of the evaluation view of each of `clips` (N,), as (N, D) float32 on the CPU.

    `frames` (F, M, V, 3) and `offsets` (clips + 1,) are the dataset's, on one device, the network
    on `device` or there too. A module must be in evaluation mode, where a row depends on its own
    clip alone.
    """
    rows = []
    for some in progress(clips.to(frames.device).split(batch)):
        view = stream(evaluation_view(frames, offsets, some, size, keep), kind, tuple(parents))
        rows.append(network(view.to(device or frames.device)).float().cpu())
    return torch.cat(rows)
