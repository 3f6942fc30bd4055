"""Make a run's page: its test clips on a map and in a confusion matrix, and each one playing."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiment import artifacts, console, pages, params
from experiment.artifacts import Features, Map, Scores
from learning.probes import confusion, nearest
from skeletons import store
from skeletons.store import Clips

NEIGHBOURS, GUESSES = 3, 3


def main(run: str) -> str:
    p = params.read()
    described = p.runs[run]
    synthetic = p.sources[described.dataset] == "synthetic"
    names = [] if synthetic else p.datasets[described.dataset].names
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    shown = content(
        store.read(artifacts.store(described.dataset)),
        train,
        test,
        artifacts.read_scores(run),
        artifacts.read_map(run),
    )
    described_run = {"run": run, "synthetic": synthetic, **described.model_dump()}
    actions = pages.actions(artifacts.classes(run), names)
    page = pages.fill("run.html", described_run | {"actions": actions} | shown)
    return artifacts.write_page(artifacts.run_page(run), page)


def content(
    clips: Clips, train: Features, test: Features, scores: Scores, places: Map
) -> dict[str, Any]:
    """What the page shows: the clips of the map and their nearest training clips, which all play,
    and the confusion matrix of all test clips.
    """
    rows = np.searchsorted(test.clip, places.clip)
    near = nearest(
        torch.from_numpy(test.features[rows]),
        torch.from_numpy(train.features),
        k=min(NEIGHBOURS, len(train.label)),
    ).numpy()
    distance = cosine_distance(test.features[rows], train.features[near])
    gallery, near = np.unique(near, return_inverse=True)
    guesses = torch.from_numpy(scores.scores[rows]).softmax(1).topk(min(GUESSES, clips.classes))

    matrix = confusion(
        torch.from_numpy(scores.scores).argmax(1), torch.from_numpy(test.label), clips.classes
    )
    shown = [
        {
            **pages.playing(clips, int(clip)),
            "guesses": [[int(a), round(float(q), 3)] for q, a in zip(*guess, strict=True)],
            "near": [[int(n), round(float(d), 3)] for n, d in zip(*found, strict=True)],
            "map": [[round(float(v), 2) for v in place] for place in both],
        }
        for clip, guess, found, both in zip(
            places.clip,
            zip(*guesses, strict=True),
            zip(near.reshape(distance.shape), distance, strict=True),
            zip(places.features, places.untrained, strict=True),
            strict=True,
        )
    ]
    return {
        "skeleton": pages.skeleton(clips.layout),
        "clips": {"training": len(train.clip), "test": len(test.clip)},
        "confusion": [[i, j, int(matrix[i, j])] for i, j in matrix.nonzero().tolist()],
        "test": shown,
        "train": [pages.playing(clips, int(train.clip[row])) for row in gallery],
    }


def cosine_distance(
    queries: NDArray[np.float32], found: NDArray[np.float32]
) -> NDArray[np.float32]:
    """1 - cosine of each query (Q, D) to each of its `found` (Q, k, D): (Q, k)."""
    length = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(found, axis=2)
    return 1 - np.einsum("qd,qkd->qk", queries, found) / np.maximum(length, 1e-12)


if __name__ == "__main__":
    console.run(main)
