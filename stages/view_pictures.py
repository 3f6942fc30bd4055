"""Draw two views of a clip as pretraining sees them: cropped, augmented, masked."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zarr
from einops import rearrange
from matplotlib.figure import Figure

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing
from experiment.workflow import console
from learning.training.augment import Augmentations, motion
from learning.training.device_clips import DeviceClips
from learning.training.views import training_view
from skeletons.clips import store

CANDIDATES = 256  # of the dataset's first clips, the one that shows the most is drawn
COLOURS = {"query": "#1b9e77", "key": "#7570b3"}


def main(dataset: str) -> str:
    p = params.read()
    size, seed = p.encoder.frames, p.seed
    group: Any = zarr.open_group(artifacts.store(dataset), mode="r")
    layout = store.layout(group)
    offsets = torch.from_numpy(group["offsets"][: CANDIDATES + 1])
    frames = torch.from_numpy(group["frames"][: int(offsets[-1])])
    indices = torch.arange(len(offsets) - 1)
    clips = DeviceClips(
        frames=frames,
        offsets=offsets,
        labels=torch.zeros_like(indices),  # which no view shows
        classes=1,
        layout=layout,
        device=frames.device,
    )
    augmentations = Augmentations.of(p.views.model_dump())
    shared: dict[str, Any] = {"size": size, "stream": "joint", "seed": seed, "epoch": 0}
    alone = torch.tensor([not frames[a:b, 1:].any() for a, b in offsets.unfold(0, 2, 1).tolist()])
    masks = [
        training_view(clips, indices, augmentations=augmentations, view=view, **shared)
        for view in (0, 1)
    ]
    shows = torch.stack([m.joints.any(1).int() + m.frames.any(1).int() for m in masks]).sum(0)
    length = offsets.diff()
    clip = indices[((shows * 2 + alone) * length.max() + length).argmax()][None]

    # The same random numbers without the masks: what the masks hide.
    spatial, temporal = augmentations.spatial_mask, augmentations.temporal_mask
    by_motion = temporal.kind != "uniform"
    bare = replace(
        augmentations,
        spatial_mask=replace(spatial, probability=0.0),
        temporal_mask=replace(temporal, probability=0.0),
    )
    first, last = offsets[clip], offsets[clip + 1]
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    whole, *rows = figure.subplots(3, 1, gridspec_kw={"height_ratios": [1.1, 1, 1]})
    count = int(last - first)
    moments = np.linspace(0, count - 1, min(drawing.ROW, count)).round().astype(int)
    joints = frames[first + torch.from_numpy(moments)].numpy()
    drawing.row(whole, joints, layout.parents, moments, count)
    whole.set_ylim(bottom=whole.get_ylim()[0] - 0.2)  # room for the crops
    whole.set_title(f"{dataset}, clip {group['name'][int(clip)]}: {count} frames", loc="left")
    for (name, colour), axes, view in zip(COLOURS.items(), rows, (0, 1), strict=True):
        drawn = augmentations.draw(seed, 0, clip, view)["crop"]
        start, cut = (int(n) for n in augmentations.crop.window(drawn, last - first))
        whole.axvspan(start - 0.5, start + cut - 0.5, 0.06 * view, 0.06 * view + 0.05, color=colour)
        seen = training_view(clips, clip, augmentations=bare, view=view, **shared).x[0]
        step = max(size // drawing.ROW, 1)
        moments = np.arange(0, size, step)
        drawing.row(
            axes,
            rearrange(seen, "c t v m -> t m v c").numpy()[moments],
            layout.parents,
            moments,
            size,
            hidden_joints=masks[view].joints[clip[0]].numpy(),
            hidden_frames=masks[view].frames[clip[0]].numpy(),
        )
        if by_motion:
            drawing.bars(axes, motion(seen[None])[0].numpy())
        axes.set_title(
            f"{name} view: frames {start} to {start + cut - 1} of the clip, resized to {size}",
            loc="left",
            color=colour,
        )
    if shows.any():
        rows[-1].set_xlabel(
            f"masked: hollow joints (times {spatial.weight:g}), "
            f"shaded frames (times {temporal.weight:g}{', by motion: bars' if by_motion else ''})"
        )
    return str(drawing.save(figure, artifacts.FIGURES / f"{dataset}-views.png"))


if __name__ == "__main__":
    console.run(main)
