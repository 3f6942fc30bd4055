"""Fine-tuning: the encoder and a linear layer on it, trained together on labelled clips."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.checkpoint import Checkpoint
from learning.features import extract
from learning.loop import autocast, train
from learning.views import Crop, cropped_view
from model.distributed import parallel
from model.encoder import Encoder


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
    frames: Tensor,
    offsets: Tensor,
    labels: Tensor,
    loader: Any,
    test: Tensor,
    *,
    classes: int,
    kind: str,
    crop: Crop,
    centre_crop: float,
    seed: int,
    epochs: int,
    lr: float,
    milestones: Sequence[int],
    momentum: float,
    weight_decay: float,
    batch: int,
    precision: str = "fp32",
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Tensor:
    """Fine-tunes a copy of `encoder` on the clips of `loader` and scores the clips `test` (N,).

    A training view is a random crop of the clip, resized; nothing else is augmented. A test view
    is the evaluation view. `frames` (F, M, V, 3), `offsets` (clips + 1,) and `labels` (clips,) are
    the dataset's; labels are on the training device, the two others may be too. Returns the scores
    (N, classes) of the last epoch.
    """
    torch.manual_seed(seed)
    device = labels.device
    network = Classifier(copy.deepcopy(encoder), classes=classes).to(device).train()
    together = parallel(network)
    size, parents = encoder.architecture["frames"], encoder.architecture["parents"]

    def step(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        view = cropped_view(
            frames,
            offsets,
            clips.to(frames.device),
            size=size,
            kind=kind,
            parents=parents,
            crop=crop,
            seed=seed,
            epoch=epoch,
        )
        with autocast(device, precision):
            scores = together(view.to(device))
        return F.cross_entropy(scores.float(), labels[clips.to(device)]), {}

    train(
        step,
        network,
        loader,
        seed=seed,
        epochs=epochs,
        lr=lr,
        milestones=milestones,
        momentum=momentum,
        weight_decay=weight_decay,
        checkpoint=checkpoint,
        progress=progress,
    )
    return extract(
        network.eval(),
        frames,
        offsets,
        test,
        size=size,
        kind=kind,
        parents=parents,
        centre_crop=centre_crop,
        batch=batch,
        device=device,
    )
