"""Evaluate one run by retrieval: each test clip takes the label of its nearest training clips."""

import torch

from experiment import artifacts
from experiment.artifacts import Features, tables
from experiment.parameters import params
from experiment.workflow import console
from learning.probing.probes import Labelled, retrieval
from machine.devices import distributed


def main(run: str) -> str:
    p = params.read()
    device = distributed.join(p.machine.device)
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))

    def labelled(side: Features, name: str) -> Labelled:
        arrays = (getattr(side, name), side.label)
        return Labelled(*(torch.from_numpy(array).to(device) for array in arrays))

    top1 = {
        name: retrieval(
            labelled(test, name),
            labelled(train, name),
            k=p.retrieval.k,
            progress=console.bar(f"retrieval {run}: {name}", "chunk"),
        ).top1
        for name in ("features", "untrained")
    }
    return tables.write(
        f"metrics/retrieval/{run}.json", top1=top1["features"], untrained_top1=top1["untrained"]
    )


if __name__ == "__main__":
    console.run(main)
