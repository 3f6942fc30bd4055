"""Scores of classifiers: accuracies, confusions and ensembles against counts by hand."""

import numpy as np
import pytest

from learning.probing.scores import class_accuracy, confusion, ensemble, topk_accuracy


def test_topk_accuracy() -> None:
    scores = np.array([[5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5], [9, 0, 8, 1, 7, 2.0]])
    labels = np.array([0, 4, 1])
    expected = (100 / 3, 200 / 3, 200 / 3, 100)
    assert topk_accuracy(scores, labels, (1, 2, 5, 6)) == pytest.approx(expected)
    assert topk_accuracy(scores[:, :3], np.array([0, 0, 0]), (1, 5))[1] == 100


def test_topk_accuracy_is_that_of_a_sorted_list() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(5, size=(200, 8)).astype(np.float32)  # with many that are equal
    labels = random.integers(8, size=200)
    ranked = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 3, 5):
        hits = [label in row[:k] for label, row in zip(labels, ranked, strict=True)]
        assert topk_accuracy(scores, labels, (k,)) == pytest.approx((100 * np.mean(hits),))


def test_what_is_no_number_is_never_right() -> None:
    assert topk_accuracy(np.full((4, 6), np.nan), np.arange(4), (1, 5)) == (0, 0)


def test_confusion_and_class_accuracy() -> None:
    labels, predictions = np.array([0, 0, 0, 1, 3, 3]), np.array([0, 1, 0, 1, 0, 1])
    matrix = confusion(predictions, labels, 4)
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
    expected = [200 / 3, 100, float("nan"), 0]
    assert class_accuracy(matrix).tolist() == pytest.approx(expected, nan_ok=True)


def test_ensemble_is_the_mean_of_the_scores() -> None:
    one, two = np.array([[1.0, 2, 3]]), np.array([[5.0, 0, 0]])
    np.testing.assert_allclose(ensemble([one, two, two]), [[11 / 3, 2 / 3, 1]])


def test_a_weighted_ensemble_counts_each_of_the_scores_as_often_as_is_said() -> None:
    one, two = np.array([[1.0, 2, 3]]), np.array([[5.0, 0, 0]])
    np.testing.assert_allclose(ensemble([one, two], [2, 6]), ensemble([one, two, two, two]))
