"""Ensemble of several runs of one protocol: the mean of their linear classifiers' scores."""

from typing import Any

import torch
import zarr

from experiment import artifacts as results
from experiment import console, params
from learning.probes import ensemble, topk_accuracy


def main(name: str) -> str:
    runs = params.read()["ensembles"][name]
    scores: list[Any] = [
        zarr.open_group(f"data/scores/{run}.zarr", mode="r") for run in runs.values()
    ]
    clips = scores[0]["clip"][:]
    for run, other in zip(runs.values(), scores, strict=True):
        if other["clip"].shape != clips.shape or (other["clip"][:] != clips).any():
            raise ValueError(
                f"run {run} was tested on other clips than {next(iter(runs.values()))}"
            )
    mean = ensemble([torch.from_numpy(one["scores"][:]) for one in scores])
    top1, top5 = topk_accuracy(mean, torch.from_numpy(scores[0]["label"][:]), (1, 5))
    return results.write(f"metrics/ensemble/{name}.json", top1=top1, top5=top5)


if __name__ == "__main__":
    console.run(main)
