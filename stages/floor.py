"""Evaluate a run's prepared coordinates, as its encoder sees them, as its features are evaluated:
the accuracies that need no encoder.
"""

import torch

from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import params
from experiment.running import inputs
from experiment.workflow import console
from learning.probing.features import Viewing, extract
from learning.probing.probes import Labelled, linear_probe, retrieval
from learning.training.settings import SGD
from model.network.encoder import load_encoder


def main(run: str) -> str:
    p = params.read()
    task = inputs.load(p, p.runs[run])
    clips, device = task.clips, task.clips.device
    given = p.runs[run].weights and load_encoder(artifacts.given(run)).architecture
    viewing = Viewing(
        size=given["frames"] if given else p.encoder.frames,
        stream=task.stream,
        centre_crop=p.embed.centre_crop,
        batch=p.embed.batch,
    )
    train, test = (
        Labelled(
            extract(
                lambda view: view.flatten(1),
                clips,
                indices,
                viewing,
                progress=console.bar(f"floor {run}: coordinates", "batch"),
            ).to(device),
            clips.labels[torch.from_numpy(indices).to(device)],
        )
        for indices in (task.train, task.test)
    )
    nearest = retrieval(
        test, train, k=p.retrieval.k, progress=console.bar(f"floor {run}: retrieval", "chunk")
    )
    linear = linear_probe(
        train,
        test,
        SGD(**p.linear.model_dump(exclude={"batch"})),
        classes=clips.classes,
        batch=p.linear.batch,
        seed=p.seed,
        device=device,
        progress=console.bar(f"floor {run}: linear", "epoch"),
    )
    return tables.write(
        f"metrics/floor/{run}.json", linear_top1=linear.last.top1, retrieval_top1=nearest.top1
    )


if __name__ == "__main__":
    console.run(main)
