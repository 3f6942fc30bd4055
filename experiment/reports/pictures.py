"""Pictures of a dataset: clips of its actions, and a clip as pretraining sees it."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiment.reports import drawing
from experiment.reports.drawing import Array
from skeletons.clips.store import Clips

ACTIONS, COLUMNS = 12, 4  # that are drawn at most; of panels
NAME = 44  # characters that fit above a panel


class View(NamedTuple):
    """A view of a clip in a picture: frames `start` to `end` (excluded), cropped and resized."""

    name: str
    colour: str
    start: int
    end: int
    seen: Array  # (T, M, V, 3), nothing masked
    joints: NDArray[np.bool_]  # (V,) masked
    frames: NDArray[np.bool_]  # (T,) masked
    motion: Array | None  # (T,) by which frames are masked


def actions(dataset: str, clips: Clips, names: Sequence[str]) -> Figure:
    """A panel for each action, evenly spaced where there are more than `ACTIONS`: the middle one of
    its clips, under its name if there are `names`.
    """
    found = np.unique(clips.label)
    shown = np.linspace(0, len(found) - 1, min(ACTIONS, len(found))).round().astype(int)
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.25 * columns, 1.9 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, action in zip_longest(grid.flat, found[shown].tolist()):
        if action is None:
            axes.remove()
            continue
        of_action = np.flatnonzero(clips.label == action)
        clip = clips.clip(int(of_action[len(of_action) // 2]))
        drawing.panel(axes, clip, clips.layout.parents, drawing.action(action, names, NAME))
    title = f"{dataset}: clips of {len(shown)} of {len(found)} actions"
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def views(
    title: str, clip: Array, parents: tuple[int, ...], shown: Sequence[View], masked: str
) -> Figure:
    """A clip (T, M, V, 3) along time, and below it its views, with a line on what is `masked`."""
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    whole, *rows = figure.subplots(1 + len(shown), 1, height_ratios=[1.1, *[1] * len(shown)])
    count = len(clip)
    moments = np.linspace(0, count - 1, min(drawing.ROW, count)).round().astype(int)
    drawing.row(whole, clip[moments], parents, moments, count)
    whole.set_ylim(bottom=whole.get_ylim()[0] - 0.2)  # room for the crops
    whole.set_title(f"{title}: {count} frames", loc="left")
    for number, (axes, view) in enumerate(zip(rows, shown, strict=True)):
        height = 0.06 * number
        ends = (view.start - 0.5, view.end - 0.5)
        whole.axvspan(*ends, height, height + 0.05, color=view.colour)
        size = len(view.seen)
        moments = np.arange(0, size, max(size // drawing.ROW, 1))
        drawing.row(
            axes,
            view.seen[moments],
            parents,
            moments,
            size,
            hidden_joints=view.joints,
            hidden_frames=view.frames,
        )
        if view.motion is not None:
            drawing.bars(axes, view.motion)
        axes.set_title(
            f"{view.name} view: frames {view.start} to {view.end - 1} of the clip, resized to "
            f"{size}",
            loc="left",
            color=view.colour,
        )
    rows[-1].set_xlabel(masked)
    return figure
