"""Evaluate the encoders that were kept of earlier epochs of one run, as `linear` and `retrieval` do
the last.
"""

import numpy as np
import torch

from experiment import artifacts, console, metrics, params
from learning.clips import DeviceClips
from learning.features import extract
from learning.probes import Labelled, linear_probe, retrieval
from model import distributed
from model.encoder import Encoder, load_encoder
from model.folding import folded
from skeletons import protocols, store


def main(run: str) -> str:
    p = params.read()
    described, path = p.runs[run], f"metrics/epochs/{run}.json"
    kept = sorted(artifacts.epochs(run).glob("*.pt"), key=lambda file: int(file.stem))
    if not kept:
        metrics.write_rows(path, [])
        return f"{path}: no epoch but the last was kept"
    stored = store.read(artifacts.store(described.dataset))
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    split = protocols.split(stored, rule, name=described.protocol)
    clips = DeviceClips.of(stored, distributed.join(p.machine.device))

    def labelled(encoder: Encoder, indices: np.ndarray) -> Labelled:
        features = extract(
            folded(encoder).to(clips.device).represent,
            clips,
            indices,
            size=encoder.architecture["frames"],
            stream=described.stream,
            **dict(p.embed),
        )
        return Labelled(features, torch.from_numpy(stored.label[indices].astype(np.int64)))

    rows = []
    for file in console.bar(f"epochs {run}", "encoder")(kept):
        encoder = load_encoder(file)
        train, test = (labelled(encoder, indices) for indices in split)
        probe = linear_probe(
            train, test, classes=clips.classes, **dict(p.linear), seed=p.seed, device=clips.device
        )
        nearest = retrieval(
            *(Labelled(*(part.to(clips.device) for part in side)) for side in (test, train)),
            k=p.retrieval.k,
        )
        rows.append(
            {
                "epoch": int(file.stem),
                "linear": round(probe.last.top1, 2),
                "retrieval": round(nearest.top1, 2),
            }
        )
    metrics.write_rows(path, rows)
    return f"{path}: epochs {', '.join(file.stem for file in kept)}"


if __name__ == "__main__":
    console.run(main)
