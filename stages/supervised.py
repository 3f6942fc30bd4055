"""The upper bound of a run: the same encoder trained with all labels, from scratch."""

import torch

from experiment import artifacts as results
from experiment import console, params, scratch
from learning.task import Task
from model import distributed
from model.encoder import Encoder


def main(run: str) -> str:
    p = params.read()
    schedule = {**p["finetune"], **p["supervised"]}
    dataset, protocol, stream = (
        p["supervised_runs"][run][k] for k in ("dataset", "protocol", "stream")
    )
    rule = p["datasets"][dataset]["protocols"][protocol]
    task = Task(dataset, rule, p["machine"]["device"])
    torch.manual_seed(p["seed"])
    layout = task.clips.layout
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **p["encoder"])
    checkpoint = scratch.checkpoint(
        f"supervised-{run}",
        settings=[
            p["seed"],
            p["supervised_runs"][run],
            rule,
            p["encoder"],
            schedule,
            p["embed"],
        ],
        inputs=(f"data/{dataset}.zarr",),
        minutes=p["machine"]["checkpoint_minutes"],
    )
    top1, top5 = task.accuracy(
        encoder,
        task.train,
        stream=stream,
        seed=p["seed"],
        schedule=schedule,
        embed=p["embed"],
        checkpoint=checkpoint,
        progress=console.bar(f"supervised {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = results.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
