"""The upper bound of a run: the same encoder trained with all labels, from scratch."""

import torch

from experiment import artifacts as results
from experiment import console, params, scratch
from learning.batches import batches
from learning.clips import DeviceClips
from learning.finetune import accuracy, fine_tune
from learning.loop import deterministic
from learning.schedule import SGD
from learning.views import Crop
from model import distributed
from model.encoder import Encoder
from skeletons import protocols, store

SGD_KEYS = ("epochs", "lr", "momentum", "weight_decay", "milestones")


def main(run: str) -> str:
    p = params.read()
    schedule = {**p["finetune"], **p["supervised"]}
    dataset, protocol, stream = (
        p["supervised_runs"][run][k] for k in ("dataset", "protocol", "stream")
    )
    rule = p["datasets"][dataset]["protocols"][protocol]
    device = distributed.join(p["machine"]["device"])
    deterministic(device)
    stored = store.read(f"data/{dataset}.zarr")
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule)
    torch.manual_seed(p["seed"])
    layout = clips.layout
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
    classifier = fine_tune(
        encoder,
        clips,
        batches(train, batch=schedule["batch"], seed=p["seed"], drop_last=False),
        stream=stream,
        crop=Crop(**schedule["crop"]),
        sgd=SGD(**{k: schedule[k] for k in SGD_KEYS}),
        precision=schedule["precision"],
        seed=p["seed"],
        checkpoint=checkpoint,
        progress=console.bar(f"supervised {run}", "step"),
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
    said = results.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
