"""Retrieval with one run's features: each test clip takes the label of its nearest neighbours."""

import torch

from experiment import artifacts, console, metrics, params
from learning.probes import retrieval
from model import distributed


def main(run: str) -> str:
    p = params.read()
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    device = distributed.join(p.machine.device)
    top1 = {
        name: retrieval(
            torch.from_numpy(getattr(test, name)).to(device),
            torch.from_numpy(test.label).to(device),
            torch.from_numpy(getattr(train, name)).to(device),
            torch.from_numpy(train.label).to(device),
            k=p.retrieval.k,
            progress=console.bar(f"retrieval {run}: {name}", "chunk"),
        ).top1
        for name in ("features", "untrained")
    }
    return metrics.write(
        f"metrics/retrieval/{run}.json", top1=top1["features"], untrained_top1=top1["untrained"]
    )


if __name__ == "__main__":
    console.run(main)
