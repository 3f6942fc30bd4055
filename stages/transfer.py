"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

from experiment import console, metrics, params, scratch
from learning.task import Task
from model import distributed
from model.encoder import load_encoder


def main(transfer: str) -> str:
    p = params.read()
    schedule = {**p.finetune.model_dump(), **p.transfer.model_dump()}
    described = p.transfers[transfer]
    source, target, protocol = described.run, described.target, described.protocol
    rule = p.datasets[target].protocols[protocol].rule
    task = Task(target, rule, p.machine.device)
    weights = f"data/weights/{source}.pt"
    checkpoint = scratch.checkpoints("transfer", transfer, minutes=p.machine.checkpoint_minutes)()
    top1, top5 = task.accuracy(
        load_encoder(weights),
        task.train,
        stream=p.runs[source].stream,
        seed=p.seed,
        schedule=schedule,
        embed=p.embed.model_dump(),
        checkpoint=checkpoint,
        progress=console.bar(f"transfer {transfer}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = metrics.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
