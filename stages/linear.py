"""Evaluate one run by a linear classifier on its frozen features, and on the untrained ones."""

import sys

import numpy as np
import torch

from experiment import artifacts
from experiment.artifacts import Classifier, Scores, tables
from experiment.parameters import params
from experiment.workflow import console
from learning.probing.probes import Labelled, learns_nothing, linear_probe
from learning.probing.scores import class_accuracy, confusion
from learning.training.settings import SGD
from machine.devices import distributed


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    train_labels, test_labels = (torch.from_numpy(side.label) for side in (train, test))
    classes, device = artifacts.classes(run), distributed.join(p.machine.device)
    probes = {
        name: linear_probe(
            Labelled(torch.from_numpy(getattr(train, name)), train_labels),
            Labelled(torch.from_numpy(getattr(test, name)), test_labels),
            SGD(**p.linear.model_dump(exclude={"batch"})),
            classes=classes,
            batch=p.linear.batch,
            seed=p.seed,
            device=device,
            progress=console.bar(f"linear {run}: {name}", "epoch"),
        )
        for name in ("features", "untrained")
    }
    trained = probes["features"]
    for name, probe in probes.items():
        if learns_nothing(probe.last.train_loss, train_labels):
            print(
                f"linear {run}: the training loss on {name} is {probe.last.train_loss:.4g}, no "
                "better than without them: nothing is learnt",
                file=sys.stderr,
            )
    scores = trained.scores.cpu().numpy()
    parts = (part.cpu().numpy() for part in (trained.weight, trained.bias))
    artifacts.write_classifier(run, Classifier(*parts))
    artifacts.write_scores(run, Scores(test.clip, test.label, scores))

    matrix = confusion(scores.argmax(1), test.label, classes)
    # Every action that any clip has is a row and a column, if nothing was taken for it, too.
    labels = np.concatenate([train.label, test.label])
    cells = matrix + np.diag(np.bincount(labels, minlength=classes))
    folder = f"metrics/linear/{run}"
    tables.write_rows(f"{folder}-epochs.json", [epoch._asdict() for epoch in trained.epochs])
    tables.write_rows(
        f"{folder}-classes.json",
        [
            {"action": action + 1, "top1": top1}
            for action, top1 in enumerate(class_accuracy(matrix).tolist())
            if matrix[action].sum()
        ],
    )
    tables.write_rows(
        f"{folder}-confusion.json",
        [
            {
                "actual": actual + 1,
                "predicted": predicted + 1,
                "clips": int(matrix[actual, predicted]),
            }
            for actual, predicted in np.argwhere(cells).tolist()
        ],
    )
    return tables.write(
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
