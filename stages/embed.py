"""Extract features of one run with the frozen encoder, and with the same encoder untrained."""

import numpy as np
import torch

from experiment import artifacts
from experiment.artifacts import Features, tables
from experiment.parameters import params
from experiment.running import inputs
from experiment.workflow import console
from learning.probing.features import extract
from machine.devices import reproducibility
from model.network.encoder import Encoder
from model.network.folding import folded


def main(run: str) -> str:
    p = params.read()
    task = inputs.load(p, p.runs[run])
    encoder = inputs.pretrained(p, run, task.clips.layout)
    torch.manual_seed(p.seed)
    untrained = Encoder(**encoder.architecture).eval()
    viewing = inputs.viewing(p, encoder, task, precision=p.embed.precision)

    def features(network: Encoder, indices: np.ndarray, title: str) -> np.ndarray:
        return extract(
            folded(network).to(task.clips.device).represent,
            task.clips,
            indices,
            viewing,
            progress=console.bar(f"embed {run}: {title}", "batch"),
        ).numpy()

    labels = task.clips.labels.cpu().numpy()
    split = {"train": task.train, "test": task.test}
    sides = {
        side: Features(
            clip=indices,
            label=labels[indices],
            features=features(encoder, indices, f"{side}, pretrained"),
            untrained=features(untrained, indices, f"{side}, untrained"),
        )
        for side, indices in split.items()
    }
    made = {name: encoder.notes.get(name, "") for name in reproducibility.MADE_ON}
    if "from" in encoder.notes:
        made["from"] = encoder.notes["from"]
    tables.write_rows(f"metrics/weights/{run}.json", [made])
    path = artifacts.write_features(run, sides, classes=task.clips.classes)
    counts = " and ".join(f"{len(part)} clips" for part in split.values())
    return f"{path}: {counts} for training and test"


if __name__ == "__main__":
    console.run(main)
