"""Fine-tuning as `semi`, `transfer` and `supervised` do it: with the experiment's settings."""

from collections.abc import Sequence

import numpy as np

from experiment.parameters.schema import Params
from experiment.workflow import console
from learning.finetuning.finetune import accuracy, fine_tune
from learning.training.augment import Augmentations
from learning.training.batches import batches
from learning.training.checkpoint import Checkpoint
from learning.training.device_clips import DeviceClips
from learning.training.schedule import SGD
from model.network.encoder import Encoder


def fine_tuned_accuracy(
    p: Params,
    encoder: Encoder,
    clips: DeviceClips,
    train: np.ndarray,
    test: np.ndarray,
    *,
    stream: str,
    epochs: int,
    lr: float,
    milestones: Sequence[int],
    seed: int,
    checkpoint: Checkpoint,
    title: str,
) -> tuple[float, ...]:
    """Top-1 and top-5 accuracy (%) on the clips `test` of a copy of `encoder`, fine-tuned with the
    labels of the clips `train`, by `finetune` and `embed` of the parameters.

    Saves to `checkpoint` and continues from it, so that it is the caller's to remove when the
    result is written; `title` stands before the progress bar. Raises as
    `learning.training.loop.train` does.
    """
    settings = p.finetune
    classifier = fine_tune(
        encoder,
        clips,
        batches(train, batch=settings.batch, seed=seed, drop_last=False),
        stream=stream,
        augmentations=Augmentations.of(settings.views),
        sgd=SGD(
            epochs=epochs,
            lr=lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            milestones=milestones,
            schedule=settings.schedule,
        ),
        precision=settings.precision,
        seed=seed,
        checkpoint=checkpoint,
        progress=console.bar(title, "step"),
    )
    return accuracy(
        classifier,
        clips,
        test,
        stream=stream,
        centre_crop=p.embed.centre_crop,
        batch=p.embed.batch,
    )
