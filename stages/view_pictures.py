"""Draw two views of a clip as pretraining sees them: cropped, augmented, masked."""

from dataclasses import replace
from typing import Any

import torch
from einops import rearrange

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing
from experiment.workflow import console
from learning.training.augment import Augmentations, motion
from learning.training.device_clips import DeviceClips
from learning.training.views import training_view
from machine.host.checked import Group
from skeletons.clips import store

CANDIDATES = 256  # of the dataset's first clips, the one that shows the most is drawn
COLOURS = {"query": "#1b9e77", "key": "#7570b3"}


def main(dataset: str) -> str:
    p = params.read()
    group = Group(artifacts.store(dataset))
    layout = store.layout(group)
    offsets = torch.from_numpy(group.read("offsets", slice(CANDIDATES + 1)))
    frames = torch.from_numpy(group.read("frames", slice(int(offsets[-1]))))
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
    shared: dict[str, Any] = {
        "size": p.encoder.frames,
        "stream": "joint",
        "seed": p.seed,
        "epoch": 0,
    }
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
    shown = []
    for view, (name, colour) in enumerate(COLOURS.items()):
        drawn = augmentations.draw(p.seed, 0, clip, view)["crop"]
        start, cut = (int(n) for n in augmentations.crop.window(drawn, length[clip]))
        seen = training_view(clips, clip, augmentations=bare, view=view, **shared).x[0]
        shown.append(
            drawing.View(
                name,
                colour,
                start,
                start + cut,
                rearrange(seen, "c t v m -> t m v c").numpy(),
                masks[view].joints[clip[0]].numpy(),
                masks[view].frames[clip[0]].numpy(),
                motion(seen[None])[0].numpy() if by_motion else None,
            )
        )
    figure = drawing.views(
        f"{dataset}, clip {group.read('name')[int(clip)]}",
        frames[int(offsets[clip]) : int(offsets[clip + 1])].numpy(),
        layout.parents,
        shown,
        f"masked: hollow joints (times {spatial.weight:g}), "
        f"shaded frames (times {temporal.weight:g}{', by motion: bars' if by_motion else ''})"
        if shows.any()
        else "",
    )
    return str(drawing.save(figure, artifacts.FIGURES / f"{dataset}-views.png"))


if __name__ == "__main__":
    console.run(main)
