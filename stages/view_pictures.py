"""Draw two views of a clip as pretraining sees them: cropped, augmented, masked."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zarr
from einops import rearrange
from matplotlib.figure import Figure

from experiment import artifacts, console, drawing, params
from learning.views import (
    Crop,
    Flip,
    Rotate,
    Shear,
    SpatialMask,
    TemporalMask,
    training_view,
    uniforms,
)
from skeletons import store

CANDIDATES = 256  # of the dataset's first clips, the one that shows the most is drawn
COLOURS = {"query": "#1b9e77", "key": "#7570b3"}


def main(dataset: str) -> str:
    p = params.read()
    size, seed, views = p.encoder.frames, p.seed, p.views
    group: Any = zarr.open_group(artifacts.store(dataset), mode="r")
    layout = store.layout(group)
    offsets = torch.from_numpy(group["offsets"][: CANDIDATES + 1])
    frames = torch.from_numpy(group["frames"][: int(offsets[-1])])
    clips = torch.arange(len(offsets) - 1)
    settings: dict[str, Any] = {
        "crop": Crop(**dict(views.crop)),
        "rotate": Rotate(**dict(views.rotate)),
        "flip": Flip(**dict(views.flip)),
        "shear": Shear(**dict(views.shear)),
        "spatial_mask": SpatialMask(**dict(views.spatial_mask)),
        "temporal_mask": TemporalMask(**dict(views.temporal_mask)),
    }
    shared: dict[str, Any] = {
        "size": size,
        "kind": "joint",
        "parents": layout.parents,
        "swap": layout.swap,
        "seed": seed,
        "epoch": 0,
    }
    alone = torch.tensor([not frames[a:b, 1:].any() for a, b in offsets.unfold(0, 2, 1).tolist()])
    masks = [training_view(frames, offsets, clips, **shared, **settings, view=v) for v in (0, 1)]
    shows = torch.stack([m.joints.any(1).int() + m.frames.any(1).int() for m in masks]).sum(0)
    length = offsets.diff()
    clip = clips[((shows * 2 + alone) * length.max() + length).argmax()][None]

    # The same random numbers without the masks: what the masks hide.
    bare = settings | {
        name: replace(settings[name], probability=0.0) for name in ("spatial_mask", "temporal_mask")
    }
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
        crop = uniforms(seed, 0, clip, view, Crop.draws)
        start, cut = (int(n) for n in settings["crop"].window(crop, last - first))
        whole.axvspan(start - 0.5, start + cut - 0.5, 0.06 * view, 0.06 * view + 0.05, color=colour)
        seen = training_view(frames, offsets, clip, **shared, **bare, view=view).x[0]
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
        axes.set_title(
            f"{name} view: frames {start} to {start + cut - 1} of the clip, resized to {size}",
            loc="left",
            color=colour,
        )
    if shows.any():
        rows[-1].set_xlabel("hollow joints and shaded frames are masked: the encoder sees zeros")
    return str(drawing.save(figure, artifacts.FIGURES / f"{dataset}-views.png"))


if __name__ == "__main__":
    console.run(main)
