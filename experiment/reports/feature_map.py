"""A run's test clips on a map by t-SNE: with what a page needs to play them, and as a picture."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from experiment.artifacts import Features
from experiment.reports import pages
from learning.probing.probes import nearest
from skeletons.clips.store import Clips

MAPPED, NEAR = 2000, 3  # clips on the map, evenly spaced among the test clips; neighbours of each
NAME = 22  # characters that fit beside the map


def content(clips: Clips, train: Features, test: Features, seed: int) -> dict[str, Any]:
    """The map, as `artifacts.write_map` writes it."""
    rows = np.linspace(0, len(test.clip) - 1, min(MAPPED, len(test.clip))).round().astype(int)
    near = nearest(
        torch.from_numpy(test.features[rows]),
        torch.from_numpy(train.features),
        k=min(NEAR, len(train.label)),
    ).numpy()
    distance = cosine_distance(test.features[rows], train.features[near])
    gallery, places = np.unique(near, return_inverse=True)
    found = np.stack([places.reshape(near.shape), distance.astype(float).round(3)], axis=2).tolist()
    halves = [tsne(array[rows], seed) for array in (test.features, test.untrained)]
    shown = zip(test.clip[rows].tolist(), np.stack(halves, axis=1).tolist(), found, strict=True)
    return {
        "skeleton": pages.skeleton(clips.layout),
        "clips": {"training": len(train.clip), "test": len(test.clip)},
        "test": [
            {
                "clip": clip,
                **pages.playing(clips, clip),
                "map": both,
                "near": [[int(place), apart] for place, apart in neighbours],
            }
            for clip, both, neighbours in shown
        ],
        "train": [pages.playing(clips, clip) for clip in train.clip[gallery].tolist()],
    }


def cosine_distance(
    queries: NDArray[np.float32], found: NDArray[np.float32]
) -> NDArray[np.float32]:
    """1 - cosine of each query (Q, D) to each of its `found` (Q, k, D): (Q, k)."""
    length = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(found, axis=2)
    return 1 - np.einsum("qd,qkd->qk", queries, found) / np.maximum(length, 1e-12)


def tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Features (N, D) by their direction in two dimensions (N, 2), near ones near to each other.

    t-SNE (van der Maaten and Hinton, JMLR 2008) at a perplexity of 30, or less of a few clips; of
    less than four there is no map, and their places say nothing.
    """
    count = len(features)
    if count < 4:
        return np.eye(count, 2, dtype=np.float32)
    direction = F.normalize(torch.from_numpy(features), dim=1)
    found = TSNE(perplexity=min(30, (count - 1) / 3), init="pca", random_state=seed)
    return np.asarray(found.fit_transform(direction.numpy()))


def picture(run: str, mapped: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """The test clips of the run's map with pretrained and with untrained features."""
    label = np.array([clip["label"] for clip in mapped])
    actions = np.unique(label)
    figure = Figure(figsize=(13, 6), layout="constrained")
    for half, title in enumerate(("pretrained encoder", "untrained encoder")):
        axes = figure.add_subplot(1, 2, half + 1)
        places = np.array([clip["map"][half] for clip in mapped], np.float32)
        shown = zip(actions, colours(len(actions)), strict=False)
        for number, (action, colour) in enumerate(shown):
            of_action = places[label == action]
            axes.scatter(
                of_action[:, 0],
                of_action[:, 1],
                s=26,
                color=colour,
                marker="osD^v"[number % 5],
                linewidths=0,
                alpha=0.85,
                label=named(action, names, NAME),
            )
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_color("#bbbbbb")
    if len(actions) <= 20:
        handles, called = axes.get_legend_handles_labels()
        figure.legend(handles, called, title="action", loc="outside right center", frameon=False)
    figure.suptitle(f"{run}: {len(label)} test clips by their features (t-SNE)", x=0.01, ha="left")
    return figure


def colours(number: int) -> NDArray[Any]:
    """Colours (at least `number`, 4) that tell as many classes apart."""
    palette = matplotlib.colormaps["tab10" if number <= 10 else "turbo"]
    return np.asarray(palette(np.arange(10) if number <= 10 else np.linspace(0, 1, number)))


def named(label: int, names: Sequence[str], longest: int) -> str:
    """An action's title: its name, cut to `longest` characters, or its number from 1 where there
    are no `names`.
    """
    name = names[label] if names else str(label + 1)
    shown = name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…"
    return shown.replace("$", r"\$")  # between two dollars Matplotlib reads a formula
