"""Draw one run's features: the nearest neighbours of test clips, and a map of the test clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from matplotlib.figure import Figure

from experiment import artifacts
from experiment.artifacts import Features
from experiment.parameters import params
from experiment.reports import drawing
from experiment.workflow import console
from learning.probing.probes import nearest
from skeletons.clips import store

QUERIES, NEIGHBOURS = 6, 5
NAME = 22  # characters that fit above a panel
RIGHT, WRONG = "#1a9850", "#d73027"


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    dataset = p.runs[run].dataset
    group: Any = zarr.open_group(artifacts.store(dataset), mode="r")
    names = p.actions(dataset)
    path = artifacts.FIGURES / run
    drawing.save(retrieval_rows(run, train, test, group, names), Path(f"{path}-retrieval.png"))
    drawing.save(feature_map(run, artifacts.read_map(run)["test"], names), Path(f"{path}-map.png"))
    return f"{path}-retrieval.png and {path}-map.png"


def retrieval_rows(
    run: str, train: Features, test: Features, group: Any, names: Sequence[str]
) -> Figure:
    """A row a query: a test clip and the training clips with the nearest features, marked, each
    under the name of its action if there are `names`.
    """
    parents = store.layout(group).parents
    actions, first = np.unique(test.label, return_index=True)
    shown = np.linspace(0, len(actions) - 1, min(QUERIES, len(actions))).round().astype(int)
    queries = first[shown]
    found = nearest(
        torch.from_numpy(test.features[queries]),
        torch.from_numpy(train.features),
        k=min(NEIGHBOURS, len(train.label)),
    ).numpy()

    figure = Figure(figsize=(13, 1.75 * len(queries)), layout="constrained")
    grid = figure.subplots(len(queries), 1 + found.shape[1], squeeze=False)
    for axes, query, neighbours in zip(grid, queries, found, strict=True):
        title = f"query: {drawing.action(test.label[query], names, NAME)}"
        drawing.panel(axes[0], store.clip(group, test.clip[query]), parents, title)
        for place, neighbour in zip(axes[1:], neighbours, strict=True):
            right = train.label[neighbour] == test.label[query]
            drawing.panel(
                place,
                store.clip(group, train.clip[neighbour]),
                parents,
                f"{'✓' if right else '✗'} {drawing.action(train.label[neighbour], names, NAME)}",
                RIGHT if right else WRONG,
            )
    figure.suptitle(f"{run}: test clips and their nearest training clips", x=0.01, ha="left")
    return figure


def feature_map(run: str, mapped: Sequence[dict[str, Any]], names: Sequence[str]) -> Figure:
    """The test clips of the run's map with pretrained and with untrained features."""
    label = np.array([clip["label"] for clip in mapped])
    actions = np.unique(label)
    figure = Figure(figsize=(13, 6), layout="constrained")
    for half, title in enumerate(("pretrained encoder", "untrained encoder")):
        axes = figure.add_subplot(1, 2, half + 1)
        places = np.array([clip["map"][half] for clip in mapped], np.float32)
        colours = drawing.colours(len(actions))
        for number, (action, colour) in enumerate(zip(actions, colours, strict=False)):
            of_action = places[label == action]
            axes.scatter(
                of_action[:, 0],
                of_action[:, 1],
                s=26,
                color=colour,
                marker="osD^v"[number % 5],
                linewidths=0,
                alpha=0.85,
                label=drawing.action(action, names, NAME) if names else str(action + 1),
            )
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_color("#bbbbbb")
    if len(actions) <= 20:
        handles, called = axes.get_legend_handles_labels()
        figure.legend(handles, called, title="action", loc="outside right center", frameon=False)
    figure.suptitle(f"{run}: {len(label)} test clips by their features (t-SNE)", x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    console.run(main)
