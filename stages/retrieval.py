"""Retrieval with one run's features: each test clip takes the label of its nearest neighbours."""

from typing import Any

import torch
import zarr

from experiment import artifacts as results
from experiment import console, params
from learning.probes import retrieval


def main(run: str) -> str:
    k = params.read()["retrieval"]["k"]
    features: Any = zarr.open_group(f"data/features/{run}.zarr", mode="r")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def tensor(name: str) -> torch.Tensor:
        return torch.from_numpy(features[name][:]).to(device)

    top1 = {
        name: retrieval(
            tensor(f"test/{name}"),
            tensor("test/label"),
            tensor(f"train/{name}"),
            tensor("train/label"),
            k=k,
            progress=console.bar(f"retrieval {run}: {name}", "chunk"),
        ).top1
        for name in ("features", "untrained")
    }
    return results.write(
        f"metrics/retrieval/{run}.json", top1=top1["features"], untrained_top1=top1["untrained"]
    )


if __name__ == "__main__":
    console.run(main)
