"""Draw one run's features: the nearest neighbours of test clips, and a map of the test clips."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import zarr
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from experiment import artifacts, console, drawing, params
from experiment.artifacts import Features
from learning.probes import nearest
from skeletons import store

QUERIES, NEIGHBOURS = 6, 5
MAPPED = 2000  # clips on the map, evenly spaced among the test clips
RIGHT, WRONG = "#1a9850", "#d73027"


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    group: Any = zarr.open_group(artifacts.store(p.runs[run].dataset), mode="r")
    path = artifacts.FIGURES / run
    drawing.save(retrieval_rows(run, train, test, group), Path(f"{path}-retrieval.png"))
    drawing.save(feature_map(run, test, p.seed), Path(f"{path}-map.png"))
    return f"{path}-retrieval.png and {path}-map.png"


def retrieval_rows(run: str, train: Features, test: Features, group: Any) -> Figure:
    """A row a query: a test clip and the training clips with the nearest features, marked."""
    parents = store.layout(group).parents
    actions, first = np.unique(test.label, return_index=True)
    queries = first[
        np.linspace(0, len(actions) - 1, min(QUERIES, len(actions))).round().astype(int)
    ]
    found = nearest(
        torch.from_numpy(test.features[queries]),
        torch.from_numpy(train.features),
        k=min(NEIGHBOURS, len(train.label)),
    ).numpy()

    figure = Figure(figsize=(13, 1.75 * len(queries)), layout="constrained")
    grid = figure.subplots(len(queries), 1 + found.shape[1], squeeze=False)
    for axes, query, neighbours in zip(grid, queries, found, strict=True):
        title = f"query: action {test.label[query] + 1}"
        drawing.panel(axes[0], store.clip(group, test.clip[query]), parents, title)
        for place, neighbour in zip(axes[1:], neighbours, strict=True):
            right = train.label[neighbour] == test.label[query]
            drawing.panel(
                place,
                store.clip(group, train.clip[neighbour]),
                parents,
                f"{'✓' if right else '✗'} action {train.label[neighbour] + 1}",
                RIGHT if right else WRONG,
            )
    figure.suptitle(f"{run}: test clips and their nearest training clips", x=0.01, ha="left")
    return figure


def feature_map(run: str, test: Features, seed: int) -> Figure:
    """The test clips in two dimensions by t-SNE, with pretrained and with untrained features."""
    label = test.label
    shown = np.linspace(0, len(label) - 1, min(MAPPED, len(label))).round().astype(int)
    actions = np.unique(label[shown])
    figure = Figure(figsize=(13, 6), layout="constrained")
    halves = {"features": "pretrained encoder", "untrained": "untrained encoder"}
    for axes, (name, title) in zip(figure.subplots(1, 2), halves.items(), strict=True):
        direction = F.normalize(torch.from_numpy(getattr(test, name)[shown]), dim=1)
        places = np.eye(len(shown), 2)  # of a few clips there is no map
        if len(shown) > 3:
            perplexity = min(30, (len(shown) - 1) / 3)
            tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
            places = tsne.fit_transform(direction.numpy())
        colours = drawing.colours(len(actions))
        for number, (action, colour) in enumerate(zip(actions, colours, strict=False)):
            of_action = places[label[shown] == action]
            axes.scatter(
                *of_action.T,
                s=26,
                color=colour,
                marker="osD^v"[number % 5],
                linewidths=0,
                alpha=0.85,
                label=str(action + 1),
            )
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_color("#bbbbbb")
    if len(actions) <= 20:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, title="action", loc="outside right center", frameon=False)
    figure.suptitle(f"{run}: {len(shown)} test clips by their features (t-SNE)", x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    console.run(main)
