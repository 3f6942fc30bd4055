"""Features of a frozen encoder: batched inference on evaluation views."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from errors import UserError
from learning.training.device_clips import DeviceClips
from learning.training.views import evaluation_view
from machine.devices.precision import computing
from machine.host.memory import keep_freed_memory


@torch.inference_mode()
def extract(
    network: Callable[[Tensor], Tensor],
    clips: DeviceClips,
    indices: np.ndarray,
    *,
    size: int,
    stream: str,
    centre_crop: float,
    batch: int,
    precision: str = "fp32",
    progress: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """The features (N, D) float32 of the clips `indices` (N,), on the CPU: `network` of their
    evaluation views.

    Products are computed in `precision` (see `computing`), views always in fp32. A module must
    be in evaluation mode, where a row depends on its own clip alone.

    Raises:
        UserError: a feature is not finite; names the first such clip.
    """
    keep_freed_memory()
    rows = []
    for part in progress(torch.from_numpy(indices).split(batch)):
        view = evaluation_view(clips, part, size=size, stream=stream, centre_crop=centre_crop)
        with computing(clips.device, precision):
            rows.append(network(view).float().cpu())
    features = torch.cat(rows)
    bad = ~features.isfinite().all(dim=1)
    if bad.any():
        raise UserError(
            f"the features of {int(bad.sum()):,} of {len(bad):,} clips are not finite, first of "
            f"clip {indices[int(bad.byte().argmax())]} (counted from 0 in the store): the weights "
            "or the prepared clips are broken"
        )
    return features
