"""Put a run's test clips on a map by t-SNE, with their nearest training clips, ready to play."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiment import artifacts
from experiment.artifacts import Features
from experiment.parameters import params
from experiment.reports import pages
from experiment.reports.tsne import tsne
from experiment.workflow import console
from learning.probing.probes import nearest
from skeletons.clips import store
from skeletons.clips.store import Clips

MAPPED = 2000  # clips on the map, evenly spaced among the test clips
NEIGHBOURS = 3


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    clips = store.read(artifacts.store(p.runs[run].dataset))
    return f"{artifacts.write_map(run, content(clips, train, test, p.seed))}"


def content(clips: Clips, train: Features, test: Features, seed: int) -> dict[str, Any]:
    """The map, as `artifacts.write_map` writes it."""
    rows = np.linspace(0, len(test.clip) - 1, min(MAPPED, len(test.clip))).round().astype(int)
    near = nearest(
        torch.from_numpy(test.features[rows]),
        torch.from_numpy(train.features),
        k=min(NEIGHBOURS, len(train.label)),
    ).numpy()
    distance = cosine_distance(test.features[rows], train.features[near])
    gallery, places = np.unique(near, return_inverse=True)
    found = np.stack([places.reshape(near.shape), distance.astype(float).round(3)], axis=2).tolist()
    halves = [tsne(array[rows], seed) for array in (test.features, test.untrained)]
    shown = zip(test.clip[rows].tolist(), np.stack(halves, axis=1).tolist(), found, strict=True)
    return {
        "skeleton": pages.skeleton(clips.layout),
        "clips": {"training": len(train.clip), "test": len(test.clip)},
        "test": [
            {
                "clip": clip,
                **pages.playing(clips, clip),
                "map": both,
                "near": [[int(place), apart] for place, apart in neighbours],
            }
            for clip, both, neighbours in shown
        ],
        "train": [pages.playing(clips, clip) for clip in train.clip[gallery].tolist()],
    }


def cosine_distance(
    queries: NDArray[np.float32], found: NDArray[np.float32]
) -> NDArray[np.float32]:
    """1 - cosine of each query (Q, D) to each of its `found` (Q, k, D): (Q, k)."""
    length = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(found, axis=2)
    return 1 - np.einsum("qd,qkd->qk", queries, found) / np.maximum(length, 1e-12)


if __name__ == "__main__":
    console.run(main)
