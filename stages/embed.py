"""Extract features of one run with the frozen encoder, and with the same encoder untrained."""

import numpy as np
import torch

from experiment import artifacts
from experiment.artifacts import Features, tables
from experiment.parameters import params
from experiment.workflow import console
from learning.training.device_clips import DeviceClips
from learning.training.features import extract
from machine.devices import distributed, provenance
from model.network import weights
from model.network.encoder import Encoder, load_encoder
from model.network.folding import folded
from skeletons.clips import protocols, store


def main(run: str) -> str:
    p = params.read()
    described = p.runs[run]
    stored = store.read(artifacts.store(described.dataset))
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    split = protocols.split(stored, rule, name=described.protocol)
    clips = DeviceClips.of(stored, distributed.join(p.machine.device))

    encoder = load_encoder(artifacts.weights(run))
    encoder.check_layout(parents=clips.layout.parents, bodies=clips.layout.bodies)
    torch.manual_seed(p.seed)
    untrained = Encoder(**encoder.architecture).eval()

    def features(network: Encoder, indices: np.ndarray, title: str) -> np.ndarray:
        return extract(
            folded(network).to(clips.device).represent,
            clips,
            indices,
            size=encoder.architecture["frames"],
            stream=described.stream,
            **dict(p.embed),
            progress=console.bar(f"embed {run}: {title}", "batch"),
        ).numpy()

    sides = {
        side: Features(
            clip=indices,
            label=stored.label[indices].astype(np.int64),
            features=features(encoder, indices, f"{side}, pretrained"),
            untrained=features(untrained, indices, f"{side}, untrained"),
        )
        for side, indices in zip(("train", "test"), split, strict=True)
    }
    notes = weights.read(artifacts.weights(run)).get("notes", {})
    made = {name: notes.get(name, "") for name in provenance.MADE_ON}
    tables.write_rows(f"metrics/weights/{run}.json", [made])
    path = artifacts.write_features(run, sides, classes=clips.classes)
    return f"{path}: {' and '.join(f'{len(part)} clips' for part in split)} for training and test"


if __name__ == "__main__":
    console.run(main)
