"""Fine-tuning: an encoder and a linear layer on it, trained together on labelled clips."""

import copy
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning.probing.features import Viewing, extract
from learning.probing.scores import topk_accuracy
from learning.training.checkpoint import Checkpoint
from learning.training.device_clips import Task
from learning.training.loop import Loss, Recipe, Step, train
from learning.training.randomness import batches
from learning.training.views import training_view
from machine.devices.distributed import parallel
from machine.devices.reproducibility import computing
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
    task: Task,
    recipe: Recipe,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Classifier:
    """A copy of `encoder` and a new linear layer, both trained on the labels of the task's training
    clips.

    Saves to `checkpoint` and continues from it as `train` does, and raises what `batches` and
    `train` raise.
    """
    clips, seed = task.clips, recipe.seed
    torch.manual_seed(seed)
    network = Classifier(copy.deepcopy(encoder), classes=clips.classes).to(clips.device).train()
    classify = parallel(network)

    def loss(indices: Tensor, epoch: int) -> Loss:
        computing(clips.device, "fp32")
        view = training_view(
            clips,
            indices,
            size=encoder.architecture["frames"],
            stream=task.stream,
            augmentations=recipe.augmentations,
            seed=seed,
            epoch=epoch,
            view=0,
        )
        with computing(clips.device, recipe.precision):
            scores = classify(view.x)
        labels = clips.labels[indices.to(clips.device, non_blocking=True)]
        return F.cross_entropy(scores.float(), labels), {}

    train(
        Step(loss),
        network,
        batches(task.train, batch=recipe.batch, seed=seed, drop_last=False),
        sgd=recipe.sgd,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    return network.eval()


def fine_tuned_accuracy(
    encoder: Encoder,
    task: Task,
    recipe: Recipe,
    viewing: Viewing,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> tuple[float, ...]:
    """Top-1 and top-5 accuracy (%) on the task's test clips of a fine-tuned copy of `encoder`.

    `checkpoint` is the caller's to remove when the result is written.
    """
    classifier = fine_tune(encoder, task, recipe, checkpoint=checkpoint, progress=progress)
    scores = extract(classifier, task.clips, task.test, viewing).numpy()
    return topk_accuracy(scores, task.clips.labels.cpu().numpy()[task.test], (1, 5))
