"""The all-labels ceiling of a run: the same encoder trained from scratch with all labels."""

from functools import partial

import torch

from experiment.artifacts import tables
from experiment.parameters import checks, params
from experiment.running import inputs, scratch
from experiment.workflow import console
from learning.finetuning.finetune import fine_tuned_accuracy
from machine.devices import distributed
from machine.devices.reproducibility import deterministic
from model.network.encoder import Encoder


def main(run: str) -> str:
    p = params.read()
    check = partial(checks.on_run, p, "supervised_runs", run)
    task = inputs.load(p, p.supervised_runs[run], check=check)
    deterministic(task.clips.device)
    torch.manual_seed(p.seed)
    layout = task.clips.layout
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **dict(p.encoder))
    checkpoint = scratch.checkpoint("supervised", run, minutes=p.machine.checkpoint_minutes)
    top1, top5 = fine_tuned_accuracy(
        encoder,
        task,
        inputs.fine_tuning(p, **dict(p.supervised), seed=p.seed),
        inputs.viewing(p, encoder, task),
        checkpoint=checkpoint,
        progress=console.bar(f"supervised {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = tables.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
