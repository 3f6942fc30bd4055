"""The upper bound of a run: the same encoder trained with all labels, from scratch."""

import torch

from experiment import console, metrics, params, scratch
from learning.task import Task
from model import distributed
from model.encoder import Encoder


def main(run: str) -> str:
    p = params.read()
    schedule = {**p.finetune.model_dump(), **p.supervised.model_dump()}
    chosen_run = p.supervised_runs[run]
    dataset, protocol, stream = chosen_run.dataset, chosen_run.protocol, chosen_run.stream
    rule = p.datasets[dataset].protocols[protocol].rule
    task = Task(dataset, rule, p.machine.device)
    torch.manual_seed(p.seed)
    layout = task.clips.layout
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **dict(p.encoder))
    checkpoint = scratch.checkpoints("supervised", run, minutes=p.machine.checkpoint_minutes)()
    top1, top5 = task.accuracy(
        encoder,
        task.train,
        stream=stream,
        seed=p.seed,
        schedule=schedule,
        embed=p.embed.model_dump(),
        checkpoint=checkpoint,
        progress=console.bar(f"supervised {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = metrics.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
