"""Linear evaluation of one run: a linear classifier on frozen features, and on untrained ones."""

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import zarr

from experiment import artifacts as results
from experiment import console, params
from learning.probes import Labelled, class_accuracy, confusion, learns_nothing, linear_probe


def main(run: str) -> str:
    p = params.read()
    features: Any = zarr.open_group(f"data/features/{run}.zarr", mode="r")
    classes = features.attrs["classes"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def labelled(part: str, name: str) -> Labelled:
        arrays = (features[f"{part}/{array}"][:] for array in (name, "label"))
        return Labelled(*map(torch.from_numpy, arrays))

    probes = {
        name: linear_probe(
            labelled("train", name),
            labelled("test", name),
            classes=classes,
            **p["linear"],
            seed=p["seed"],
            device=device,
            progress=console.bar(f"linear {run}: {name}", "epoch"),
        )
        for name in ("features", "untrained")
    }
    trained = probes["features"]
    for name, probe in probes.items():
        if learns_nothing(probe.last.train_loss, labelled("train", name).labels):
            print(
                f"linear {run}: the training loss on {name} is {probe.last.train_loss:.4g}, no "
                "better than without them: nothing is learnt",
                file=sys.stderr,
            )

    path = Path(f"data/scores/{run}.zarr")
    shutil.rmtree(path, ignore_errors=True)
    scores = zarr.create_group(path)
    scores.create_array("scores", data=trained.scores.cpu().numpy())
    for name in ("label", "clip"):
        scores.create_array(name, data=features[f"test/{name}"][:])

    train, test = (labelled(part, "features").labels for part in ("train", "test"))
    matrix = confusion(trained.scores.cpu().argmax(1), test, classes)
    # Every action that any clip has is a row and a column, if nothing was taken for it, too.
    cells = matrix + torch.cat([train, test]).bincount(minlength=classes).diag()
    results.write_rows(f"metrics/linear/{run}-epochs.json", [e._asdict() for e in trained.epochs])
    results.write_rows(
        f"metrics/linear/{run}-classes.json",
        [
            {"action": action + 1, "top1": top1}
            for action, top1 in enumerate(class_accuracy(matrix).tolist())
            if matrix[action].sum()
        ],
    )
    results.write_rows(
        f"metrics/linear/{run}-confusion.json",
        [
            {
                "actual": actual + 1,
                "predicted": predicted + 1,
                "clips": int(matrix[actual, predicted]),
            }
            for actual, predicted in cells.nonzero().tolist()
        ],
    )
    return results.write(
        f"metrics/linear/{run}.json",
        top1=trained.last.top1,
        top5=trained.last.top5,
        best_top1=trained.best.top1,
        best_top5=max(epoch.top5 for epoch in trained.epochs),
        untrained_top1=probes["untrained"].last.top1,
        untrained_top5=probes["untrained"].last.top5,
    )


if __name__ == "__main__":
    console.run(main)
