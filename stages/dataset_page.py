"""Make a dataset's page: clips of every action and subject playing, to see that they are right."""

from typing import Any

import numpy as np

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import pages
from experiment.workflow import console
from skeletons.clips import store
from skeletons.clips.store import Clips

OF_ACTION = 24  # clips of an action, evenly spaced among them


def main(dataset: str) -> str:
    p = params.read()
    clips = store.read(artifacts.store(dataset))
    described = {
        "dataset": dataset,
        "synthetic": p.sources[dataset] == "synthetic",
        "actions": pages.actions(clips.classes, p.actions(dataset)),
    }
    page = pages.fill("dataset.html", described | content(clips))
    return artifacts.write_page(artifacts.dataset_page(dataset), page)


def content(clips: Clips) -> dict[str, Any]:
    """What the page shows: some clips of every action, and how large the dataset is."""
    chosen: list[int] = []
    for action in np.unique(clips.label):
        of_action = np.flatnonzero(clips.label == action)
        count = min(OF_ACTION, len(of_action))
        chosen += of_action[np.linspace(0, len(of_action) - 1, count).round().astype(int)].tolist()
    return {
        "skeleton": pages.skeleton(clips.layout),
        "clips": len(clips),
        "counts": {
            "actions": len(np.unique(clips.label)),
            "subjects": len(np.unique(clips.subject)),
            "cameras": len(np.unique(clips.camera)),
        },
        "shown": [pages.playing(clips, clip) for clip in sorted(chosen)],
    }


if __name__ == "__main__":
    console.run(main)
