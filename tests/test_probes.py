"""Probes against plain computations."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from errors import UserError
from learning.probing.probes import Labelled, learns_nothing, linear_probe, nearest, retrieval
from learning.probing.scores import topk_accuracy
from learning.training.settings import SGD
from skeletons.clips.protocols import draw_clips

CLASSES = 7


def clusters(count: int, seed: int, noise: float = 1.0) -> Labelled:
    """Features (count, 12) of noisy classes, and their labels."""
    centres = torch.randn(CLASSES, 12, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    features = centres[labels] + noise * torch.randn(count, 12, generator=generator)
    return Labelled(features, labels)


SETTINGS: dict[str, Any] = {
    "sgd": SGD(epochs=6, lr=0.5, milestones=(3, 5)),
    "classes": CLASSES,
    "batch": 32,
    "seed": 4,
    "device": "cpu",
}


# ---- Linear classification -----------------------------------------------------------------------


def test_linear_probe_is_a_plain_torch_loop() -> None:
    train, test = clusters(150, 1), clusters(60, 2)
    probe = linear_probe(train, test, **SETTINGS)
    (train_x, train_y), (test_x, test_y) = train, test

    generator = torch.Generator().manual_seed(4)
    layer = nn.Linear(12, CLASSES)
    nn.init.normal_(layer.weight, 0, 0.01, generator=generator)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.SGD(layer.parameters(), 0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])
    for epoch in range(6):
        assert probe.epochs[epoch].lr == pytest.approx(optimiser.param_groups[0]["lr"])
        order = torch.randperm(150, generator=generator)
        losses = []
        for i in range(0, 150, 32):  # five batches, the last of 22
            rows = order[i : i + 32]
            loss = nn.CrossEntropyLoss()(layer(train_x[rows]), train_y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
        schedule.step()
        scores = layer(test_x)
        assert probe.epochs[epoch].epoch == epoch
        assert probe.epochs[epoch].train_loss == pytest.approx(np.mean(losses), rel=1e-4)
        assert probe.epochs[epoch].test_loss == pytest.approx(
            F.cross_entropy(scores, test_y).item(), rel=1e-4
        )
        right = (scores.argmax(1) == test_y).float().mean().item()
        assert probe.epochs[epoch].top1 == pytest.approx(100 * right, abs=1e-4)
    torch.testing.assert_close(probe.weight, layer.weight.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.bias, layer.bias.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(probe.scores, scores.detach(), rtol=1e-4, atol=1e-4)


def test_linear_probe_learns_and_reports_last_and_best() -> None:
    train, test = clusters(400, 1, 0.5), clusters(100, 2, 0.5)
    probe = linear_probe(train, test, **SETTINGS)
    assert probe.last is probe.epochs[-1]
    assert probe.last.top1 > 95
    assert probe.last.top5 >= probe.last.top1
    assert probe.best.top1 == max(epoch.top1 for epoch in probe.epochs)
    assert topk_accuracy(probe.scores.numpy(), test.labels.numpy(), (1,)) == (probe.last.top1,)


def test_linear_probe_is_a_function_of_its_seed() -> None:
    train, test = clusters(150, 1), clusters(60, 2)
    global_state = torch.get_rng_state()
    first = linear_probe(train, test, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.rand(3)
    again = linear_probe(train, test, **SETTINGS)
    other = linear_probe(train, test, **SETTINGS | {"seed": 5})
    assert torch.equal(first.weight, again.weight)
    assert first.epochs == again.epochs
    assert not torch.equal(first.weight, other.weight)


def test_linear_probe_shows_its_progress() -> None:
    seen: list[int] = []

    def progress(epochs: Iterable[int]) -> Iterable[int]:
        for epoch in epochs:
            yield epoch
            seen.append(epoch)

    linear_probe(clusters(40, 1), clusters(20, 2), **SETTINGS, progress=progress)
    assert seen == list(range(6))


def test_linear_probe_stops_at_a_loss_that_is_not_finite() -> None:
    clips = clusters(40, 1)
    with pytest.raises(UserError, match=r"linear probe: loss is nan in epoch 1 at lr 1e\+38"):
        linear_probe(clips, clips, **SETTINGS | {"sgd": SGD(epochs=6, lr=1e38)})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["training", "test"])
def test_linear_probe_refuses_features_that_are_not_finite(part: str, bad: float) -> None:
    parts = {"training": clusters(40, 1), "test": clusters(40, 2)}
    parts[part].features[3, 2] = bad
    with pytest.raises(UserError, match=f"the {part} features of row 3 are not finite"):
        linear_probe(*parts.values(), **SETTINGS)


def test_a_loss_that_the_labels_frequencies_explain_says_that_nothing_is_learnt() -> None:
    """Of constant features a probe learns the frequencies; the loss is then their entropy."""
    labels = torch.tensor([0] * 60 + [1] * 30 + [4] * 30)
    entropy = -sum(share * math.log(share) for share in (1 / 2, 1 / 4, 1 / 4))
    assert learns_nothing(entropy, labels)
    assert learns_nothing(math.log(3), labels)
    assert not learns_nothing(0.99 * entropy, labels)
    constant = Labelled(torch.ones(120, 12), labels)
    settings = SETTINGS | {"batch": 120, "sgd": SGD(epochs=60, lr=0.5)}
    probe = linear_probe(constant, constant, **settings)
    assert learns_nothing(probe.last.train_loss, labels)
    told = Labelled(constant.features + F.one_hot(labels, 12), labels)
    probe = linear_probe(told, told, **settings)
    assert not learns_nothing(probe.last.train_loss, labels)


# ---- Retrieval -----------------------------------------------------------------------------------


def brute_force(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """All cosines, sorted."""
    q, g = (F.normalize(features.double(), dim=1) for features in (queries, gallery))
    return (q @ g.T).argsort(dim=1, descending=True, stable=True)[:, :k]


@pytest.mark.parametrize("chunk", [1, 10, 53, 1000])
@pytest.mark.parametrize("k", [1, 9, 80])
def test_nearest_is_brute_force(k: int, chunk: int) -> None:
    queries, gallery = clusters(53, 1)[0], clusters(80, 2)[0]
    gallery *= torch.rand(80, 1, generator=torch.Generator().manual_seed(3)) * 10 + 0.1
    found = nearest(queries, gallery, k, chunk)
    assert torch.equal(found, brute_force(queries, gallery, k))


def test_nearest_leaves_out_a_zero_feature() -> None:
    gallery = torch.eye(3, 4)
    gallery[1] = 0
    assert nearest(gallery[[0, 2]], gallery).tolist() == [[0], [2]]


def test_nearest_wants_a_gallery_of_at_least_k() -> None:
    with pytest.raises(ValueError, match="6 nearest neighbours asked for, the gallery has 5 clips"):
        nearest(torch.ones(2, 3), torch.ones(5, 3), 6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["query", "gallery"])
def test_retrieval_refuses_features_that_are_not_finite(part: str, bad: float) -> None:
    parts = {"query": clusters(8, 1), "gallery": clusters(9, 2)}
    parts[part].features[5, 0] = bad
    with pytest.raises(UserError, match=f"the {part} features of row 5 are not finite"):
        retrieval(*parts.values())


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_retrieval_is_a_majority_vote(k: int) -> None:
    queries, gallery = clusters(70, 1, 2.0), clusters(90, 2, 2.0)
    result = retrieval(queries, gallery, k=k, chunk=16)
    neighbours = brute_force(queries.features, gallery.features, k)
    assert torch.equal(result.neighbours, neighbours)
    right = 0
    for prediction, row, label in zip(result.predictions, neighbours, queries.labels, strict=True):
        votes = gallery.labels[row].tolist()
        expected = max(votes, key=lambda vote: (votes.count(vote), -votes.index(vote)))
        assert prediction == expected
        right += int(expected == label)
    assert result.top1 == pytest.approx(100 * right / 70)


def test_retrieval_breaks_ties_by_the_nearer() -> None:
    angles = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    gallery = torch.stack([angles.cos(), angles.sin()], dim=1)
    query = torch.tensor([[1.0, 0.0]])
    for labels, expected in (([2, 1, 1, 2, 3], 2), ([3, 1, 2, 2, 1], 1), ([3, 1, 2, 0, 2], 2)):
        clips = Labelled(gallery, torch.tensor(labels))
        result = retrieval(Labelled(query, torch.tensor([2])), clips, k=5)
        assert result.neighbours.tolist() == [[0, 1, 2, 3, 4]]
        assert result.predictions.tolist() == [expected]


# ---- Draws of labelled clips ---------------------------------------------------------------------

LABELS = np.random.default_rng(0).choice(12, 1020, p=np.linspace(1, 3, 12) / 24)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_a_draw_has_the_floor_of_the_fraction(fraction: float, balanced: bool) -> None:
    drawn = draw_clips(LABELS, fraction, seed=0, draw=0, balanced=balanced)
    assert drawn.dtype == np.int64
    assert len(drawn) == 1020 * round(fraction * 100) // 100
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() >= 0
    assert drawn.max() < 1020


def test_the_floor_is_of_the_decimal_fraction() -> None:
    assert len(draw_clips(np.zeros(100, dtype=int), 0.29, seed=0, draw=0)) == 29
    assert len(draw_clips(np.zeros(40_091, dtype=int), 0.01, seed=0, draw=0)) == 400


@pytest.mark.parametrize("balanced", [False, True])
def test_draws_are_seeded_nested_and_differ(balanced: bool) -> None:
    def draw(fraction: float, seed: int, number: int) -> list[int]:
        return draw_clips(LABELS, fraction, seed=seed, draw=number, balanced=balanced).tolist()

    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    drawn = draw(0.1, 0, 0)
    assert draw(0.1, 0, 0) == drawn
    assert len({tuple(draw(0.1, seed, number)) for seed in range(3) for number in range(3)}) == 9
    assert set(draw(0.01, 0, 0)) <= set(drawn) <= set(draw(0.2, 0, 0))


def test_a_draw_is_the_same_everywhere() -> None:
    """Fixed numbers: a change of the generator or of the rule would change published results."""
    labels = np.arange(1000) % 3
    assert draw_clips(labels, 0.005, seed=0, draw=1).tolist() == [7, 130, 259, 289, 720]
    assert draw_clips(labels, 0.005, seed=0, draw=1, balanced=True).tolist() == [
        7,
        259,
        380,
        627,
        720,
    ]


def test_every_clip_is_drawn_as_often_as_any_other() -> None:
    counts = np.zeros(200, dtype=int)
    for number in range(500):
        counts[draw_clips(LABELS[:200], 0.2, seed=3, draw=number)] += 1
    assert abs(counts - 100).max() < 5 * np.sqrt(500 * 0.2 * 0.8)


def test_a_balanced_draw_takes_equally_of_every_class() -> None:
    for fraction, each in ((0.1, 102 // 12), (0.2, 204 // 12), (0.012, 1)):
        drawn = draw_clips(LABELS, fraction, seed=0, draw=0, balanced=True)
        counts = np.bincount(LABELS[drawn], minlength=12)
        assert counts.min() == each
        assert counts.max() <= each + 1


def test_a_balanced_draw_fills_up_for_small_classes() -> None:
    labels = np.array([0] * 90 + [1] * 7 + [2] * 3)
    drawn = draw_clips(labels, 0.3, seed=0, draw=0, balanced=True)
    assert np.bincount(labels[drawn]).tolist() == [20, 7, 3]


def test_a_fraction_without_clips_is_refused() -> None:
    for fraction in (0.0001, 0.0, -0.1, 1.5):
        with pytest.raises(ValueError, match=f"fraction {fraction} of 1020 clips is"):
            draw_clips(LABELS, fraction, seed=0, draw=0)
