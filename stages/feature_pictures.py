"""Pictures of one run's features: what the nearest neighbours look like, and a map of the clips."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
import zarr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from experiment import console, drawing, params
from learning.probes import nearest
from skeletons.store import layout

QUERIES, NEIGHBOURS, POSES = 6, 5, 5
MAPPED = 2000  # clips on the map, evenly spaced among the test clips
RIGHT, WRONG = "#1a9850", "#d73027"


def main(run: str) -> str:
    p = params.read()
    dataset = p["runs"][run]["dataset"]
    features: Any = zarr.open_group(f"data/features/{run}.zarr", mode="r")
    store: Any = zarr.open_group(f"data/{dataset}.zarr", mode="r")
    drawing.save(retrieval_rows(run, features, store), f"metrics/figures/{run}-retrieval.png")
    drawing.save(feature_map(run, features, p["seed"]), f"metrics/figures/{run}-map.png")
    return f"{Path('metrics/figures', run)}-retrieval.png and -map.png"


def retrieval_rows(run: str, features: Any, store: Any) -> Figure:
    """A row a query: a test clip and the training clips with the nearest features, marked."""
    test, train = features["test/label"][:], features["train/label"][:]
    actions, first = np.unique(test, return_index=True)
    queries = first[
        np.linspace(0, len(actions) - 1, min(QUERIES, len(actions))).round().astype(int)
    ]
    found = nearest(
        torch.from_numpy(features["test/features"][:][queries]),
        torch.from_numpy(features["train/features"][:]),
        k=min(NEIGHBOURS, len(train)),
    ).numpy()

    figure = Figure(figsize=(13, 1.75 * len(queries)), layout="constrained")
    grid = figure.subplots(len(queries), 1 + found.shape[1], squeeze=False)
    for axes, query, neighbours in zip(grid, queries, found, strict=True):
        panel(axes[0], store, features["test/clip"][query], f"query: action {test[query] + 1}")
        for place, neighbour in zip(axes[1:], neighbours, strict=True):
            right = train[neighbour] == test[query]
            panel(
                place,
                store,
                features["train/clip"][neighbour],
                f"{'✓' if right else '✗'} action {train[neighbour] + 1}",
                RIGHT if right else WRONG,
            )
    figure.suptitle(f"{run}: test clips and their nearest training clips", x=0.01, ha="left")
    return figure


def panel(axes: Axes, store: Any, clip: int, title: str, colour: str = "black") -> None:
    """A clip as a few skeletons side by side."""
    start, end = store["offsets"][int(clip) : int(clip) + 2]
    moments = np.linspace(start, end - 1, POSES + 2).round().astype(int)[1:-1]
    frames = store["frames"][int(start) : int(end)][moments - start]
    parents = layout(store).parents
    places = 0.62 * np.arange(POSES)
    drawing.poses(axes, frames, parents, list(places), height=drawing.height(frames), line=1)
    axes.set_title(title, fontsize=10, color=colour)
    axes.set(xticks=[], yticks=[], xlim=(-0.6, places[-1] + 0.6), ylim=(-0.85, 0.6))
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=1 if colour == "black" else 2)


def feature_map(run: str, features: Any, seed: int) -> Figure:
    """The test clips in two dimensions by t-SNE, with pretrained and with untrained features."""
    label = features["test/label"][:]
    shown = np.linspace(0, len(label) - 1, min(MAPPED, len(label))).round().astype(int)
    actions = np.unique(label[shown])
    palette = matplotlib.colormaps["tab10" if len(actions) <= 10 else "turbo"]
    colours = palette(np.arange(10) if len(actions) <= 10 else np.linspace(0, 1, len(actions)))

    figure = Figure(figsize=(13, 6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("features", "untrained"), strict=True):
        direction = F.normalize(torch.from_numpy(features[f"test/{name}"][:][shown]), dim=1)
        places = TSNE(
            perplexity=min(30, (len(shown) - 1) / 3), init="pca", random_state=seed
        ).fit_transform(direction.numpy())
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
        axes.set_title("pretrained encoder" if name == "features" else "untrained encoder")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color("#bbbbbb")
    if len(actions) <= 20:
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, title="action", loc="outside right center", frameon=False)
    figure.suptitle(f"{run}: {len(shown)} test clips by their features (t-SNE)", x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    console.run(main)
