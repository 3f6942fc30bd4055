"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

from experiment import artifacts as results
from experiment import console, params, scratch
from learning.task import Task
from model import distributed
from model.encoder import load_encoder


def main(transfer: str) -> str:
    p = params.read()
    schedule = {**p["finetune"], **p["transfer"]}
    source, target, protocol = (p["transfers"][transfer][k] for k in ("run", "target", "protocol"))
    rule = p["datasets"][target]["protocols"][protocol]
    task = Task(target, rule, p["machine"]["device"])
    weights = f"data/weights/{source}.pt"
    checkpoint = scratch.checkpoint(
        f"transfer-{transfer}",
        settings=[
            p["seed"],
            p["transfers"][transfer],
            p["runs"][source],
            rule,
            schedule,
            p["embed"],
        ],
        inputs=(f"data/{target}.zarr", weights),
        minutes=p["machine"]["checkpoint_minutes"],
    )
    top1, top5 = task.accuracy(
        load_encoder(weights),
        task.train,
        stream=p["runs"][source]["stream"],
        seed=p["seed"],
        schedule=schedule,
        embed=p["embed"],
        checkpoint=checkpoint,
        progress=console.bar(f"transfer {transfer}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    said = results.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
