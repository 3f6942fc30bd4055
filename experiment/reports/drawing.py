"""Stick figures: clips as rows of skeletons in a plot, and pictures whose bytes tell no time."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiment.reports import pages
from machine.host import atomic

Array = NDArray[np.float32]

SEEN, SECOND, HIDDEN = "#1f3b73", "#b0418f", "#d8d8d8"  # body, second body, masked frame
BARS = "#8fa3c8"
MASKED = "#d95f02"  # masked joint
ROW, WIDE = 16, 9  # skeletons in a row along time, which is so many times as wide as high


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


def poses(
    axes: Axes,
    clip: Array,
    parents: Sequence[int],
    places: Iterable[float],
    *,
    height: float,
    width: float,
    hidden_joints: NDArray[np.bool_],
    hidden_frames: NDArray[np.bool_],
) -> None:
    """Draw the frames of a prepared clip (T, M, V, 3), one skeleton at each of `places` (T,).

    x is to the right, z up; `height` metres are one unit of the plot upwards and
    `width` units sideways. Masked joints (V,) are hollow, their bones dotted; of masked frames (T,)
    a pale trace is left.
    """
    bones = [(joint, parent) for joint, parent in enumerate(parents) if joint != parent]
    for body, colour in zip(
        range(clip.shape[1])[::-1], (SECOND, SEEN)[-clip.shape[1] :], strict=True
    ):
        for frame, place, gone in zip(clip[:, body], places, hidden_frames, strict=True):
            if not frame.any():
                continue
            x, y = frame[:, 0] * width / height + place, frame[:, 2] / height
            for masked in (True, False):
                chosen = [b for b in bones if hidden_joints[list(b)].any() == masked]
                axes.plot(
                    *(_broken([values[list(bone)] for bone in chosen]) for values in (x, y)),
                    color=HIDDEN if gone else colour,
                    linewidth=1.2,
                    linestyle=":" if masked else "-",
                    solid_capstyle="round",
                )
            if hidden_joints.any() and not gone:
                axes.plot(
                    x[hidden_joints],
                    y[hidden_joints],
                    linestyle="none",
                    marker="o",
                    markersize=3,
                    markerfacecolor="white",
                    markeredgecolor=MASKED,
                    markeredgewidth=0.9,
                )


def row(
    axes: Axes,
    clip: Array,
    parents: tuple[int, ...],
    moments: NDArray[Any],
    hidden_joints: NDArray[np.bool_],
    hidden_frames: NDArray[np.bool_],
) -> None:
    """A clip along time: skeletons at their `moments` among its frames, masked ones shaded.

    `hidden_joints` (V,) and `hidden_frames`, of all frames, say what is masked.
    """
    count = len(hidden_frames)
    for frame in np.flatnonzero(hidden_frames):
        axes.axvspan(frame - 0.5, frame + 0.5, color="#f3ece4", linewidth=0, zorder=0)
    metres, width = height(clip), count / WIDE
    poses(
        axes,
        clip,
        parents,
        moments,
        height=metres,
        width=width,
        hidden_joints=hidden_joints,
        hidden_frames=hidden_frames[moments],
    )
    margin = max(1.2 * count / ROW, 0.6 * float(np.ptp(clip[..., 0])) * width / metres)
    axes.set_xlim(-margin, count - 1 + margin)
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)


def views(
    title: str, clip: Array, parents: tuple[int, ...], shown: Sequence[View], masked: str
) -> Figure:
    """A clip (T, M, V, 3) along time, and below it its views, with a line on what is `masked`.

    One body is seen from behind; two from the side, from which none hides the other, at as many
    moments as have room, half a pair's width apart.
    """
    across, moments_of_row = pages.to_second(clip), ROW
    if across is not None:
        clip, shown = turned(clip, across), [v._replace(seen=turned(v.seen, across)) for v in shown]
        pair = 1.5 * np.ptp(clip[..., 0], axis=(1, 2)).max()
        moments_of_row = int(np.clip(WIDE * height(clip) / pair, 1, ROW))
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    whole, *rows = figure.subplots(1 + len(shown), 1, height_ratios=[1.1, *[1] * len(shown)])
    count = len(clip)
    moments = np.linspace(0, count - 1, min(moments_of_row, count)).round().astype(int)
    nothing = np.zeros(len(parents), bool), np.zeros(count, bool)
    row(whole, clip[moments], parents, moments, *nothing)
    whole.set_ylim(bottom=whole.get_ylim()[0] - 0.2)  # room for the crops
    whole.set_title(f"{title}: {count} frames", loc="left")
    for number, (axes, view) in enumerate(zip(rows, shown, strict=True)):
        bottom = 0.06 * number
        ends = (view.start - 0.5, view.end - 0.5)
        whole.axvspan(*ends, bottom, bottom + 0.05, color=view.colour)
        size = len(view.seen)
        moments = np.arange(0, size, max(-(-size // moments_of_row), 1))
        row(axes, view.seen[moments], parents, moments, view.joints, view.frames)
        if view.motion is not None:
            bars(axes, view.motion)
        axes.set_title(
            f"{view.name} view: frames {view.start} to {view.end - 1} of the clip, resized to "
            f"{size}",
            loc="left",
            color=view.colour,
        )
    rows[-1].set_xlabel(masked)
    return figure


def turned(clip: Array, across: Array) -> Array:
    """A clip (T, M, V, 3) with x along the horizontal direction `across` (x, y), from the middle of
    its bodies; y is as before.
    """
    present, x = clip.any(axis=(2, 3)), clip[..., :2] @ across
    x[present] -= (x[present].min() + x[present].max()) / 2
    return np.concatenate([x[..., None], clip[..., 1:]], axis=-1)


def bars(axes: Axes, values: Array) -> None:
    """Bars below a row, one for each of its frames (T,), the highest a quarter of it."""
    low, high = axes.get_ylim()
    tallest = (high - low) / 4
    heights = values * tallest / max(values.max(), np.finfo(np.float32).tiny)
    axes.bar(range(len(values)), heights, bottom=low - tallest, color=BARS)
    axes.set_ylim(low - tallest, high)


def height(clip: Array) -> float:
    """Metres that the bodies of a clip (T, M, V, 3) are high, at least one."""
    up = clip[..., 2]
    low, high = np.quantile(up, [0.01, 0.99])
    return max(float(high - low), 1.0)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG: the same bytes for the same picture."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    atomic.write(path, picture.getvalue())
    return path


def _broken(segments: Sequence[Array]) -> Array:
    """Coordinates of many lines as one line with gaps."""
    gap = np.array([np.nan])
    return np.concatenate([np.concatenate([one, gap]) for one in segments] or [gap])
