"""Draw a dataset: a clip of each of its actions, of some where there are many."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import zarr
from matplotlib.figure import Figure

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing
from experiment.workflow import console
from skeletons.clips import store

ACTIONS, COLUMNS = 12, 4  # that are drawn at most; of panels
NAME = 44  # characters that fit above a panel


def main(dataset: str) -> str:
    p = params.read()
    group: Any = zarr.open_group(artifacts.store(dataset), mode="r")
    figure = actions(dataset, group, p.actions(dataset))
    return str(drawing.save(figure, artifacts.FIGURES / f"{dataset}-clips.png"))


def actions(dataset: str, group: Any, names: Sequence[str]) -> Figure:
    """A panel an action of the store `group`, evenly spaced where there are more than `ACTIONS`:
    the middle one of its clips, under its name if there are `names`.
    """
    parents, labels = store.layout(group).parents, group["label"][:]
    found = np.unique(labels)
    shown = np.linspace(0, len(found) - 1, min(ACTIONS, len(found))).round().astype(int)
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.25 * columns, 1.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, action in zip_longest(grid.flat, found[shown].tolist()):
        if action is None:
            axes.remove()
            continue
        clips = np.flatnonzero(labels == action)
        clip = store.clip(group, int(clips[len(clips) // 2]))
        drawing.panel(axes, clip, parents, drawing.action(action, names, NAME))
    title = f"{dataset}: clips of {len(shown)} of {len(found)} actions"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    console.run(main)
