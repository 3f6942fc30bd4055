"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

from experiment import artifacts as results
from experiment import console, params, scratch
from learning.batches import batches
from learning.clips import DeviceClips
from learning.finetune import accuracy, fine_tune
from learning.loop import deterministic
from learning.schedule import SGD
from learning.views import Crop
from model import distributed
from model.encoder import load_encoder
from skeletons import protocols, store

SGD_KEYS = ("epochs", "lr", "momentum", "weight_decay", "milestones")


def main(transfer: str) -> str:
    p = params.read()
    schedule = {**p["finetune"], **p["transfer"]}
    source, target, protocol = (p["transfers"][transfer][k] for k in ("run", "target", "protocol"))
    stream = p["runs"][source]["stream"]
    rule = p["datasets"][target]["protocols"][protocol]
    device = distributed.join(p["machine"]["device"])
    deterministic(device)
    stored = store.read(f"data/{target}.zarr")
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule)
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
    classifier = fine_tune(
        load_encoder(weights),
        clips,
        batches(train, batch=schedule["batch"], seed=p["seed"], drop_last=False),
        stream=stream,
        crop=Crop(**schedule["crop"]),
        sgd=SGD(**{k: schedule[k] for k in SGD_KEYS}),
        precision=schedule["precision"],
        seed=p["seed"],
        checkpoint=checkpoint,
        progress=console.bar(f"transfer {transfer}", "step"),
    )
    top1, top5 = accuracy(
        classifier,
        clips,
        test,
        stream=stream,
        centre_crop=p["embed"]["centre_crop"],
        batch=p["embed"]["batch"],
    )
    if distributed.rank() > 0:
        return ""
    said = results.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
