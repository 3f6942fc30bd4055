"""Make a run's page: its test clips on a map and in a confusion matrix, and each one playing."""

from typing import Any

import numpy as np
import torch

from experiment import artifacts, console, pages, params
from experiment.artifacts import Scores
from learning.probes import confusion

GUESSES = 3


def main(run: str) -> str:
    p = params.read()
    described = p.runs[run]
    synthetic = p.sources[described.dataset] == "synthetic"
    names = [] if synthetic else p.datasets[described.dataset].names
    scores = artifacts.read_scores(run)
    page = {
        "run": run,
        "synthetic": synthetic,
        **described.model_dump(),
        "actions": pages.actions(scores.scores.shape[1], names),
        **content(artifacts.read_map(run), scores),
    }
    return artifacts.write_page(artifacts.run_page(run), pages.fill("run.html", page))


def content(mapped: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """A run's map with what the linear classifier says of each clip, and the confusion matrix of
    all test clips.
    """
    logits = torch.from_numpy(scores.scores)
    rows = np.searchsorted(scores.clip, [clip["clip"] for clip in mapped["test"]])
    shares, actions = logits[rows].softmax(1).topk(min(GUESSES, logits.shape[1]))
    guesses = [
        [[action, round(share, 3)] for action, share in zip(*both, strict=True)]
        for both in zip(actions.tolist(), shares.tolist(), strict=True)
    ]
    matrix = confusion(logits.argmax(1), torch.from_numpy(scores.label), logits.shape[1])
    return mapped | {
        "confusion": [[i, j, int(matrix[i, j])] for i, j in matrix.nonzero().tolist()],
        "test": [
            clip | {"map": np.round(clip["map"], 2).tolist(), "guesses": guess}
            for clip, guess in zip(mapped["test"], guesses, strict=True)
        ],
    }


if __name__ == "__main__":
    console.run(main)
