"""Probes of frozen features: linear classification and nearest-neighbour retrieval.

Accuracies are per cent.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from errors import UserError
from learning.probing.scores import percent, topk_accuracy
from learning.training.optimiser import Optimiser
from learning.training.settings import SGD

Progress = Callable[[Iterable[int]], Iterable[int]]


class Labelled(NamedTuple):
    """Features (N, D) float of clips and their labels (N,) int64, on one device."""

    features: Tensor
    labels: Tensor


def _refuse_not_finite(features: Tensor, what: str) -> None:
    """Raises UserError if a feature is NaN or infinite; takes no memory for good ones."""
    low, high = features.aminmax()
    if not bool(low.isfinite() & high.isfinite()):
        row = int((~features.isfinite()).any(dim=1).byte().argmax())
        raise UserError(
            f"the {what} features of row {row} are not finite: no accuracy can be told from them"
        )


# ---- Linear classification -----------------------------------------------------------------------


class Epoch(NamedTuple):
    """One epoch of a probe: its number (from 0), learning rate, mean losses, test accuracies."""

    epoch: int
    lr: float
    train_loss: float
    test_loss: float
    top1: float
    top5: float


@dataclass(frozen=True)
class LinearProbe:
    """A trained linear classifier, its test `scores` (logits (N, classes)), and its epochs."""

    weight: Tensor
    bias: Tensor
    scores: Tensor
    epochs: list[Epoch]

    @property
    def last(self) -> Epoch:
        """The last epoch: the result."""
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The epoch with the best test top-1: hindsight, but what the released code reports."""
        return max(self.epochs, key=lambda epoch: epoch.top1)


def linear_probe(
    train: Labelled,
    test: Labelled,
    sgd: SGD,
    *,
    classes: int,
    batch: int,
    seed: int,
    device: torch.device | str,
    progress: Progress = iter,
) -> LinearProbe:
    """Train a linear layer on frozen features, test it after every epoch.

    `progress` wraps the range of epochs, for a progress bar. The last, smaller batch of an epoch is
    used. Weights and order come from `seed` on the CPU, so they do not depend on the device.

    Raises:
        UserError: a feature is not finite, or the loss stops being finite.
    """
    for name, part in (("training", train), ("test", test)):
        _refuse_not_finite(part.features, name)
    x, labels = (tensor.to(device) for tensor in train)
    test_x, test_y = (tensor.to(device) for tensor in test)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(classes, x.shape[1]).normal_(0, 0.01, generator=generator)
    weight = weight.to(device).requires_grad_()
    bias = torch.zeros(classes, device=device, requires_grad=True)
    optimiser = Optimiser([weight, bias], sgd)

    history = []
    for epoch in progress(range(sgd.epochs)):
        rate = sgd.rate(epoch, steps=1)
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(x), generator=generator).to(device).split(batch):
            loss = F.cross_entropy(F.linear(x[rows], weight, bias), labels[rows])
            optimiser.update(loss, rate)
            total += loss.detach() * len(rows)
        train_loss = total.item() / len(x)
        if not math.isfinite(train_loss):
            raise UserError(f"linear probe: loss is {train_loss} in epoch {epoch} at lr {rate:g}")
        with torch.no_grad():
            scores = F.linear(test_x, weight, bias)
            test_loss = F.cross_entropy(scores, test_y).item()
        top1, top5 = topk_accuracy(scores.cpu().numpy(), test.labels.cpu().numpy(), (1, 5))
        history.append(Epoch(epoch, rate, train_loss, test_loss, top1, top5))
    return LinearProbe(weight.detach(), bias.detach(), scores, history)


def learns_nothing(train_loss: float, labels: Tensor) -> bool:
    """True if a training loss is that of a classifier that ignores its input, or worse.

    Such a one does best with the frequencies of the training `labels` (N,): its loss is their
    entropy. Less than a thousandth below is taken for the same.
    """
    share = labels.bincount() / len(labels)
    return train_loss > 0.999 * float(torch.special.entr(share).sum())


# ---- Retrieval -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retrieval:
    """Predicted labels (Q,), neighbours in the gallery (Q, k), nearest first, and the accuracy."""

    predictions: Tensor
    neighbours: Tensor
    top1: float


def retrieval(
    queries: Labelled,
    gallery: Labelled,
    *,
    k: int = 1,
    chunk: int = 1024,
    progress: Progress = iter,
) -> Retrieval:
    """Label each query by the majority of its k nearest neighbours.

    Among labels with equally many votes the one with the nearest neighbour wins. Raises as
    `nearest` does.
    """
    neighbours = nearest(queries.features, gallery.features, k, chunk, progress=progress)
    labels = gallery.labels[neighbours]
    votes = (labels[:, :, None] == labels[:, None]).sum(2)
    winner = votes.argmax(1, keepdim=True)  # the first of equals
    predictions = labels.gather(1, winner)[:, 0]
    correct = (predictions == queries.labels).cpu().numpy()
    return Retrieval(predictions, neighbours, percent(correct))


def nearest(
    queries: Tensor, gallery: Tensor, k: int = 1, chunk: int = 1024, *, progress: Progress = iter
) -> Tensor:
    """Indices (Q, k) of the k rows of `gallery` with the largest cosine to each query.

    The nearest comes first. Holds (chunk, gallery) similarities at a time and no second copy of the
    features.

    Raises:
        UserError: the gallery has fewer than k rows, or a feature is not finite.
    """
    if k > len(gallery):
        raise UserError(f"{k} nearest neighbours asked for, the gallery has {len(gallery)} clips")
    for name, features in (("query", queries), ("gallery", gallery)):
        _refuse_not_finite(features, name)
    # A query's own norm scales all its similarities alike and leaves their order.
    scale = 1 / torch.linalg.vector_norm(gallery, dim=1).clamp(min=1e-12)
    found = [
        (queries[start : start + chunk] @ gallery.T).mul_(scale).topk(k, dim=1).indices
        for start in progress(range(0, len(queries), chunk))
    ]
    return torch.cat(found)
