"""Make a run's page: its test clips on a map and in a confusion matrix, and each one playing."""

from typing import Any

import numpy as np

from experiment import artifacts
from experiment.artifacts import Scores
from experiment.parameters import params
from experiment.reports import pages
from experiment.workflow import console
from learning.probing.scores import confusion

GUESSES = 3


def main(run: str) -> str:
    p = params.read()
    described = p.runs[run]
    scores = artifacts.read_scores(run)
    page = {
        "run": run,
        "synthetic": p.sources[described.dataset] == "synthetic",
        **described.model_dump(),
        "actions": pages.actions(scores.scores.shape[1], p.actions(described.dataset)),
        **content(artifacts.read_map(run), scores),
    }
    return artifacts.write_page(artifacts.run_page(run), pages.fill("run.html", page))


def content(mapped: dict[str, Any], scores: Scores) -> dict[str, Any]:
    """A run's map with what the linear classifier says of each clip, and the confusion matrix of
    all test clips.
    """
    logits = scores.scores
    rows = np.searchsorted(scores.clip, [clip["clip"] for clip in mapped["test"]])
    shares = np.exp(logits[rows] - logits[rows].max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    likeliest = np.argsort(-shares, axis=1, kind="stable")[:, :GUESSES]
    guesses = [
        [[action, round(float(share[action]), 3)] for action in actions]
        for share, actions in zip(shares, likeliest.tolist(), strict=True)
    ]
    matrix = confusion(logits.argmax(1), scores.label, logits.shape[1])
    return mapped | {
        "confusion": [[i, j, int(matrix[i, j])] for i, j in np.argwhere(matrix).tolist()],
        "test": [
            clip | {"map": np.round(clip["map"], 2).tolist(), "guesses": guess}
            for clip, guess in zip(mapped["test"], guesses, strict=True)
        ],
    }


if __name__ == "__main__":
    console.run(main)
