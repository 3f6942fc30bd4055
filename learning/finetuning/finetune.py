"""Fine-tuning: an encoder and a linear layer on it, trained together on labelled clips."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.probing.scores import topk_accuracy
from learning.training.augment import Augmentations
from learning.training.checkpoint import Checkpoint
from learning.training.device_clips import DeviceClips
from learning.training.features import extract
from learning.training.loop import train
from learning.training.schedule import SGD
from learning.training.views import training_view
from machine.devices.distributed import parallel
from machine.devices.precision import computing
from model.network.encoder import Encoder


class Classifier(nn.Module):
    """An encoder and a linear layer on its representation."""

    def __init__(self, encoder: Encoder, *, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(2 * encoder.architecture["dim"], classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> scores (B, classes)."""
        return self.linear(self.encoder.represent(x))


def fine_tune(
    encoder: Encoder,
    clips: DeviceClips,
    loader: Any,
    *,
    stream: str,
    augmentations: Augmentations,
    sgd: SGD,
    precision: str = "fp32",
    seed: int,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Classifier:
    """A copy of `encoder` and a new linear layer, both trained on the labels of the clips whose
    indices `loader` gives (see `batches`).

    A view is a random one, by `augmentations`. Saves to `checkpoint` and continues from it as
    `train` does, and raises what that raises.
    """
    torch.manual_seed(seed)
    network = Classifier(copy.deepcopy(encoder), classes=clips.classes).to(clips.device).train()
    classify = parallel(network)
    size = encoder.architecture["frames"]

    def step(indices: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        computing(clips.device, "fp32")
        view = training_view(
            clips,
            indices,
            size=size,
            stream=stream,
            augmentations=augmentations,
            seed=seed,
            epoch=epoch,
            view=0,
        )
        with computing(clips.device, precision):
            scores = classify(view.x)
        labels = clips.labels[indices.to(clips.device, non_blocking=True)]
        return F.cross_entropy(scores.float(), labels), {}

    train(step, network, loader, sgd=sgd, seed=seed, checkpoint=checkpoint, progress=progress)
    return network.eval()


def scores(
    classifier: Classifier,
    clips: DeviceClips,
    indices: np.ndarray,
    *,
    stream: str,
    centre_crop: float,
    batch: int,
) -> Tensor:
    """The classifier's scores (N, classes) of the evaluation views of the clips `indices` (N,)."""
    return extract(
        classifier,
        clips,
        indices,
        size=classifier.encoder.architecture["frames"],
        stream=stream,
        centre_crop=centre_crop,
        batch=batch,
    )


def accuracy(
    classifier: Classifier,
    clips: DeviceClips,
    indices: np.ndarray,
    *,
    stream: str,
    centre_crop: float,
    batch: int,
) -> tuple[float, ...]:
    """Top-1 and top-5 accuracy (%) of the classifier on the clips `indices` (N,)."""
    found = scores(classifier, clips, indices, stream=stream, centre_crop=centre_crop, batch=batch)
    labels = clips.labels.cpu().numpy()[indices]
    return topk_accuracy(found.cpu().numpy(), labels, (1, 5))
