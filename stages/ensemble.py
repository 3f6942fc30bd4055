"""Ensemble of two or three runs of one protocol: the mean of their linear classifiers' scores."""

import numpy as np

from errors import UserError
from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import params
from experiment.workflow import console
from learning.probing.scores import ensemble, topk_accuracy


def main(name: str) -> str:
    described = params.read().ensembles[name]
    runs = list(described.runs.values())
    scores = [artifacts.read_scores(run) for run in runs]
    for run, other in zip(runs, scores, strict=True):
        if not np.array_equal(other.clip, scores[0].clip):
            raise UserError(f"run {run} was tested on other clips than {runs[0]}")
    mean = ensemble(
        [one.scores for one in scores],
        [described.weights[stream] for stream in described.runs if described.weights],
    )
    top1, top5 = topk_accuracy(mean, scores[0].label, (1, 5))
    return tables.write(f"metrics/ensemble/{name}.json", top1=top1, top5=top5)


if __name__ == "__main__":
    console.run(main)
