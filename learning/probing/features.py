"""Features of a frozen encoder on evaluation views, and how good they are while it is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from errors import UserError
from learning.probing.probes import Labelled, linear_probe
from learning.training.device_clips import DeviceClips, Task
from learning.training.settings import SGD
from learning.training.views import as_stream, crop_resize
from machine.devices.distributed import rank
from machine.devices.reproducibility import computing
from machine.host.memory import keep_freed_memory
from model.network.encoder import Encoder
from model.network.folding import folded


@dataclass(frozen=True)
class Viewing:
    """The view that a frozen network has of clips: the central part `centre_crop` of each, resized
    to `size` frames, as `stream`; `batch` clips at a time, products in `precision`.
    """

    size: int
    stream: str
    centre_crop: float
    batch: int
    precision: str = "fp32"


def evaluation_view(
    clips: DeviceClips, indices: Tensor, *, size: int, stream: str, centre_crop: float = 0.95
) -> Tensor:
    """The central part `centre_crop` of each of the clips `indices` (B,), resized."""
    first, frame_count = clips.extent(indices.to(clips.frames.device, non_blocking=True))
    start = ((1 - centre_crop) * frame_count.double() / 2).long()
    x = crop_resize(clips.frames, first + start, frame_count - 2 * start, size)
    return as_stream(x, stream, clips.layout.parents).to(clips.device)


@torch.inference_mode()
def extract(
    network: Callable[[Tensor], Tensor],
    clips: DeviceClips,
    indices: np.ndarray,
    viewing: Viewing,
    *,
    progress: Callable[[Iterable[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """The features (N, D) float32 of the clips `indices` (N,), on the CPU: `network` of their
    evaluation views, which are always computed in fp32.

    A module must be in evaluation mode, where a row depends on its own clip alone.

    Raises:
        UserError: a feature is not finite; names the first such clip.
    """
    keep_freed_memory()
    rows = []
    for part in progress(torch.from_numpy(indices).split(viewing.batch)):
        view = evaluation_view(
            clips,
            part,
            size=viewing.size,
            stream=viewing.stream,
            centre_crop=viewing.centre_crop,
        )
        with computing(clips.device, viewing.precision):
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


def labelled(encoder: Encoder, task: Task, viewing: Viewing) -> tuple[Labelled, Labelled]:
    """The features of a task's training and test clips by a copy of `encoder`, on the CPU."""
    represent, labels = folded(encoder).to(task.clips.device).represent, task.clips.labels.cpu()
    train, test = (
        Labelled(extract(represent, task.clips, side, viewing), labels[torch.from_numpy(side)])
        for side in (task.train, task.test)
    )
    return train, test


def linear_curve(
    encoder: Encoder,
    task: Task,
    viewing: Viewing,
    *,
    every: int | None,
    sgd: SGD,
    batch: int,
    seed: int,
) -> Callable[[int], dict[str, float | None]]:
    """A function for `pretrain` to call after an epoch, which says how far it has come.

    It takes the epoch and returns the linear top-1 accuracy (%) of the encoder as it is then, of a
    copy, as `linear_top1`: after each `every` epochs, None after the others. Without `every`,
    without test clips, and in all but the first of several processes, it does nothing.

    `sgd`, `batch` and `seed` are those of `linear_probe`.
    """

    def evaluate(epoch: int) -> dict[str, float | None]:
        if not every or not len(task.test) or rank() > 0:
            return {}
        if (epoch + 1) % every:
            return {"linear_top1": None}
        result = linear_probe(
            *labelled(encoder, task, viewing),
            sgd,
            classes=task.clips.classes,
            batch=batch,
            seed=seed,
            device=task.clips.device,
        )
        return {"linear_top1": result.last.top1}

    return evaluate
