"""A picture of two views of a clip as pretraining sees them: cropped, augmented, masked."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zarr
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiment import console, drawing, params
from learning.clips import DeviceClips
from learning.views import Augmentations, training_view
from skeletons import store

CANDIDATES = 256  # of the dataset's first clips, the one that shows the most is drawn
SHOWN = 16  # skeletons in a row
COLOURS = {"query": "#1b9e77", "key": "#7570b3"}


def main(dataset: str) -> str:
    p = params.read()
    size = p["encoder"]["frames"]
    group: Any = zarr.open_group(f"data/{dataset}.zarr", mode="r")
    layout = store.layout(group)
    offsets = torch.from_numpy(group["offsets"][: CANDIDATES + 1])
    frames = torch.from_numpy(group["frames"][: int(offsets[-1])])
    indices = torch.arange(len(offsets) - 1)
    clips = DeviceClips(
        frames=frames,
        offsets=offsets,
        labels=torch.from_numpy(group["label"][: len(indices)].astype(np.int64)),
        classes=int(group.attrs["classes"]),
        layout=layout,
        device=frames.device,
    )
    augmentations = Augmentations.of(p["views"])
    shared: dict[str, Any] = {"size": size, "stream": "joint", "seed": p["seed"], "epoch": 0}
    alone = torch.tensor([not frames[a:b, 1:].any() for a, b in offsets.unfold(0, 2, 1).tolist()])
    masks = [
        training_view(clips, indices, augmentations=augmentations, view=view, **shared)
        for view in (0, 1)
    ]
    shows = sum(mask.joints.any(1).int() + mask.frames.any(1).int() for mask in masks)
    length = offsets.diff()
    clip = indices[((shows * 2 + alone) * length.max() + length).argmax()][None]

    # The same random numbers without the masks: what the masks hide.
    bare = replace(
        augmentations,
        spatial_mask=replace(augmentations.spatial_mask, probability=0.0),
        temporal_mask=replace(augmentations.temporal_mask, probability=0.0),
    )
    first, last = offsets[clip], offsets[clip + 1]
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    whole, *rows = figure.subplots(3, 1, gridspec_kw={"height_ratios": [1.1, 1, 1]})
    count = int(last - first)
    moments = np.linspace(0, count - 1, min(SHOWN, count)).round().astype(int)
    row(whole, frames[first + torch.from_numpy(moments)].numpy(), layout.parents, moments, count)
    whole.set_ylim(bottom=whole.get_ylim()[0] - 0.2)  # room for the crops
    whole.set_title(f"{dataset}, clip {group['name'][int(clip)]}: {count} frames", loc="left")
    for (name, colour), axes, view in zip(COLOURS.items(), rows, (0, 1), strict=True):
        drawn, *_ = augmentations.draw(p["seed"], 0, clip, view)
        start, cut = (int(n) for n in augmentations.crop.window(drawn, last - first))
        whole.axvspan(start - 0.5, start + cut - 0.5, 0.06 * view, 0.06 * view + 0.05, color=colour)
        seen = training_view(clips, clip, augmentations=bare, view=view, **shared).x[0]
        step = max(size // SHOWN, 1)
        moments = np.arange(0, size, step)
        row(
            axes,
            rearrange(seen, "c t v m -> t m v c").numpy()[moments],
            layout.parents,
            moments,
            size,
            hidden_joints=masks[view].joints[clip[0]].numpy(),
            hidden_frames=masks[view].frames[clip[0]].numpy(),
        )
        axes.set_title(
            f"{name} view: frames {start} to {start + cut - 1} of the clip, resized to {size}",
            loc="left",
            color=colour,
        )
    rows[-1].set_xlabel("hollow joints and shaded frames are masked: the encoder sees zeros")
    return drawing.save(figure, f"metrics/figures/{dataset}-views.png")


def row(
    axes: Axes,
    clip: drawing.Array,
    parents: tuple[int, ...],
    moments: np.ndarray,
    count: int,
    *,
    hidden_joints: np.ndarray | None = None,
    hidden_frames: np.ndarray | None = None,
) -> None:
    """Skeletons at their `moments` among `count` frames, masked frames (count,) shaded."""
    hidden = np.zeros(count, bool) if hidden_frames is None else hidden_frames
    for frame in np.flatnonzero(hidden):
        axes.axvspan(frame - 0.5, frame + 0.5, color="#f3ece4", linewidth=0, zorder=0)
    drawing.poses(
        axes,
        clip,
        parents,
        moments,
        height=drawing.height(clip),
        width=count / 9,  # a row is about nine times as wide as high
        hidden_joints=hidden_joints,
        hidden_frames=hidden[moments],
    )
    axes.set_xlim(-1.2 * count / SHOWN, count - 1 + 1.2 * count / SHOWN)
    axes.set_yticks([])
    axes.spines[["left", "right", "top"]].set_visible(False)


if __name__ == "__main__":
    console.run(main)
