"""Pretraining: SCD-Net's objective on two random views of each clip, without labels.

A step reads on in `views` (the two views), `contrast` (networks, queues, loss) and `loop` (the
optimiser's step, checkpoints).
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learning.probing.probes import Labelled, linear_probe
from learning.training.augment import Augmentations
from learning.training.checkpoint import Checkpoint
from learning.training.contrast import TERMS, SCDNet
from learning.training.device_clips import DeviceClips
from learning.training.features import extract
from learning.training.loop import Curve, train
from learning.training.schedule import SGD
from learning.training.views import training_view
from machine.devices.distributed import dealt, parallel, rank, ranks
from machine.devices.precision import computing
from model.network.absent_bodies import Plan, plan
from model.network.encoder import Encoder
from model.network.folding import folded


def pretrain(
    network: SCDNet,
    clips: DeviceClips,
    loader: Any,
    *,
    stream: str,
    augmentations: Augmentations,
    sgd: SGD,
    precision: str = "fp32",
    seed: int,
    fill_queue: bool = True,
    evaluate: Callable[[int], dict[str, float | None]] = lambda epoch: {},
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Curve:
    """Trains `network` on the clips whose indices `loader` gives (see `batches`, whole batches);
    returns the loss, its terms, the contrast accuracy (%) and what `evaluate` adds of every epoch.

    A step of compiled encoders is replayed as a CUDA graph on a GPU that holds the clips' frames.
    `fill_queue` replaces the random vectors that the queues start with by keys of these clips, as
    the untrained key network gives them. Saves to `checkpoint` and continues from it as `train`
    does, and raises what that raises.
    """
    contrast = parallel(network, unused=len(network.terms) < len(TERMS))
    size = network.query.encoder.architecture["frames"]
    alone = network.query.encoder.compiled and ranks() == 1
    replay = alone and clips.frames.device.type == "cuda"

    def views(indices: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """A query view and a key view (B, 3, T, V, M) of each clip, drawn independently."""
        computing(clips.device, "fp32")
        number = torch.arange(2, device=clips.frames.device).repeat_interleave(len(indices))
        both = training_view(
            clips,
            indices.repeat(2),
            size=size,
            stream=stream,
            augmentations=augmentations,
            seed=seed,
            epoch=epoch,
            view=number,
        ).x
        query, key = both.chunk(2)
        return query, key

    def inputs(indices: Tensor, epoch: int) -> tuple[Tensor, int | Tensor, Plan | None]:
        paired = clips.paired[indices] if alone and clips.paired is not None else None
        bodies = None if paired is None else plan(paired, clips.device)
        if not replay:
            return indices, epoch, bodies
        now = torch.full((), epoch, device=clips.device)
        return indices.to(clips.device, non_blocking=True), now, bodies

    def step(
        indices: Tensor, epoch: int | Tensor, bodies: Plan | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        query, key = views(indices, epoch)
        with computing(clips.device, precision):
            return contrast(query, key, bodies)

    def start() -> None:
        length = len(network.queue("instance")) if fill_queue else 0
        for batch in islice(cycle(loader), length // loader.batch_size):
            with dealt(batch) as (part, _):
                network.warm_up_queue(views(part, epoch=-1)[1])

    return train(
        step,
        network,
        loader,
        sgd=sgd,
        seed=seed,
        inputs=inputs,
        replay=replay,
        start=start,
        evaluate=evaluate,
        checkpoint=checkpoint,
        progress=progress,
    )


def linear_curve(
    encoder: Encoder,
    clips: DeviceClips,
    train: np.ndarray,
    test: np.ndarray,
    *,
    stream: str,
    every: int | None,
    centre_crop: float,
    batch: int,
    probe: Mapping[str, Any],
    seed: int,
) -> Callable[[int], dict[str, float | None]]:
    """What `pretrain` may evaluate after an epoch: how far it has come, by a linear probe.

    The result takes the epoch and gives the linear top-1 accuracy (%) of the encoder as it is then,
    of a copy, as `linear_top1`: after each `every` epochs, None after the others. Without `every`,
    and in all but the first of several processes, it does nothing.

    `train` and `test` are indices of clips, `batch` how many of them are computed at a time, and
    `probe` the settings of `linear_probe`.
    """

    def labelled(represent: Callable[[Tensor], Tensor], indices: np.ndarray) -> Labelled:
        features = extract(
            represent,
            clips,
            indices,
            size=encoder.architecture["frames"],
            stream=stream,
            centre_crop=centre_crop,
            batch=batch,
        )
        return Labelled(features, clips.labels[torch.from_numpy(indices).to(clips.device)])

    def evaluate(epoch: int) -> dict[str, float | None]:
        if not every or rank() > 0:
            return {}
        if (epoch + 1) % every:
            return {"linear_top1": None}
        represent = folded(encoder).represent
        result = linear_probe(
            labelled(represent, train),
            labelled(represent, test),
            classes=clips.classes,
            **probe,
            seed=seed,
            device=clips.device,
        )
        return {"linear_top1": result.last.top1}

    return evaluate
