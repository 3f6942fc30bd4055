"""Linear evaluation of one run: a linear classifier on frozen features, and on untrained ones."""

import numpy as np
import torch

from experiment import artifacts, console, metrics, params
from experiment.artifacts import Scores
from learning.probes import class_accuracy, confusion, linear_probe
from model import distributed


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    classes, device = artifacts.classes(run), distributed.join(p.machine.device)
    probes = {
        name: linear_probe(
            torch.from_numpy(getattr(train, name)),
            torch.from_numpy(train.label),
            torch.from_numpy(getattr(test, name)),
            torch.from_numpy(test.label),
            classes=classes,
            **dict(p.linear),
            seed=p.seed,
            device=device,
            progress=console.bar(f"linear {run}: {name}", "epoch"),
        )
        for name in ("features", "untrained")
    }
    trained = probes["features"]
    scores = trained.scores.cpu()
    artifacts.write_scores(run, Scores(test.clip, test.label, scores.numpy()))

    matrix = confusion(scores.argmax(1), torch.from_numpy(test.label), classes)
    folder = f"metrics/linear/{run}"
    metrics.write_rows(f"{folder}-epochs.json", [epoch._asdict() for epoch in trained.epochs])
    metrics.write_rows(
        f"{folder}-classes.json",
        [
            {"action": action + 1, "top1": top1}
            for action, top1 in enumerate(class_accuracy(matrix).tolist())
            if np.isfinite(top1)
        ],
    )
    metrics.write_rows(
        f"{folder}-confusion.json",
        [
            {
                "actual": actual + 1,
                "predicted": predicted + 1,
                "clips": int(matrix[actual, predicted]),
            }
            for actual, predicted in matrix.nonzero().tolist()
        ],
    )
    return metrics.write(
        f"{folder}.json",
        top1=trained.last.top1,
        top5=trained.last.top5,
        best_top1=trained.best.top1,
        best_top5=max(epoch.top5 for epoch in trained.epochs),
        untrained_top1=probes["untrained"].last.top1,
        untrained_top5=probes["untrained"].last.top5,
    )


if __name__ == "__main__":
    console.run(main)
