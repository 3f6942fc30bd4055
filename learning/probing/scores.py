"""Figures of a classifier's scores: accuracies, in per cent, confusions, ensembles.

In NumPy, so that a stage that only reads scores starts without PyTorch.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


def topk_accuracy(scores: Floats, labels: Ints, ks: Sequence[int]) -> tuple[float, ...]:
    """For each k, the percentage of clips with their label among the k largest `scores` (N, C).

    Of equal scores the first counts as larger; NaN is never right.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    behind = (scores < own) | ((scores == own) & (np.arange(scores.shape[1]) >= labels[:, None]))
    rank = (~behind).sum(1)
    return tuple(percent(rank < k) for k in ks)


def confusion(predictions: Ints, labels: Ints, classes: int) -> Ints:
    """Numbers of clips of class i that were taken for class j, as (classes, classes)."""
    cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return cells.reshape(classes, classes)


def class_accuracy(matrix: Ints) -> Floats:
    """The accuracy of each class from a confusion matrix, NaN for a class without clips."""
    with np.errstate(invalid="ignore"):
        return 100 * matrix.diagonal() / matrix.sum(1)


def ensemble(scores: Sequence[Floats], weights: Sequence[float] = ()) -> Floats:
    """The scores of several classifiers of the same clips as one: the mean of their logits, each
    counted `weights` times as much, or all alike.
    """
    return np.average(np.stack(scores), axis=0, weights=weights or None)


def percent(correct: NDArray[np.bool_]) -> float:
    """The percentage of true values."""
    return 100 * int(correct.sum()) / len(correct)
