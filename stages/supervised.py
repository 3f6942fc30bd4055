"""The all-labels ceiling of a run: the same encoder trained from scratch with all labels."""

import torch

from experiment import artifacts
from experiment.artifacts import tables
from experiment.fine_tuning.accuracy import fine_tuned_accuracy
from experiment.parameters import checks, params
from experiment.running import scratch
from experiment.workflow import console
from learning.training.device_clips import DeviceClips
from learning.training.loop import deterministic
from machine.devices import distributed
from model.network.encoder import Encoder
from skeletons.clips import protocols, store


def main(run: str) -> str:
    p = params.read()
    described = p.supervised_runs[run]
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.dataset))
    checks.on_run(p, "supervised_runs", run, stored)
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule, name=described.protocol)
    torch.manual_seed(p.seed)
    layout = clips.layout
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **dict(p.encoder))
    checkpoint = scratch.checkpoint("supervised", run, minutes=p.machine.checkpoint_minutes)
    top1, top5 = fine_tuned_accuracy(
        p,
        encoder,
        clips,
        train,
        test,
        stream=described.stream,
        **dict(p.supervised),
        seed=p.seed,
        checkpoint=checkpoint,
        title=f"supervised {run}",
    )
    if distributed.rank() > 0:
        return ""
    said = tables.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
