"""What a frozen network says of clips: batched inference on evaluation views."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from learning.views import evaluation_view, stream
from skeletons.memory import keep_freed_memory


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
    centre_crop: float,
    batch: int,
    precision: str = "fp32",
    device: torch.device | None = None,
    progress: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """`network` of the evaluation view of each of `clips` (N,), as (N, D) float32 on the CPU.

    Its products are computed in `precision`, fp32 or bf16, the views always in fp32.

    `frames` (F, M, V, 3) and `offsets` (clips + 1,) are the dataset's, on one device, the network
    on `device` or there too. A module must be in evaluation mode, where a row depends on its own
    clip alone.
    """
    keep_freed_memory()
    rows = []
    device = device or frames.device
    for some in progress(clips.to(frames.device).split(batch)):
        joints = evaluation_view(frames, offsets, some, size, centre_crop)
        view = stream(joints, kind, tuple(parents))
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            rows.append(network(view.to(device)).float().cpu())
    return torch.cat(rows)
