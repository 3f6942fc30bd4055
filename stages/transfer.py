"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

from experiment.artifacts import tables
from experiment.parameters import params
from experiment.parameters.schema import Run
from experiment.running import inputs, scratch
from experiment.workflow import console
from learning.finetuning.finetune import fine_tuned_accuracy
from machine.devices import distributed
from machine.devices.reproducibility import deterministic


def main(transfer: str) -> str:
    p = params.read()
    described = p.transfers[transfer]
    stream = p.runs[described.run].stream
    on = Run(dataset=described.target, protocol=described.protocol, stream=stream)
    task = inputs.load(p, on)
    deterministic(task.clips.device)
    encoder = inputs.pretrained(p, described.run, task.clips.layout)
    checkpoint = scratch.checkpoint("transfer", transfer, minutes=p.machine.checkpoint_minutes)
    top1, top5 = fine_tuned_accuracy(
        encoder,
        task,
        inputs.fine_tuning(p, **dict(p.transfer), lr=p.finetune.lr, seed=p.seed),
        inputs.viewing(p, encoder, task),
        checkpoint=checkpoint,
        progress=console.bar(f"transfer {transfer}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = tables.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
