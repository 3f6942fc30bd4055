"""Retrieval with one run's features: each test clip takes the label of its nearest neighbours."""

from typing import Any

import torch
import zarr

from experiment import artifacts as results
from experiment import console, params
from learning.probes import Labelled, retrieval


def main(run: str) -> str:
    k = params.read()["retrieval"]["k"]
    features: Any = zarr.open_group(f"data/features/{run}.zarr", mode="r")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def labelled(part: str, name: str) -> Labelled:
        arrays = (features[f"{part}/{array}"][:] for array in (name, "label"))
        return Labelled(*(torch.from_numpy(array).to(device) for array in arrays))

    top1 = {
        name: retrieval(
            labelled("test", name),
            labelled("train", name),
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
