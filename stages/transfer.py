"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

import numpy as np
import torch

from model import distributed
from model.encoder import load_encoder
from model.finetune import fine_tune
from model.probes import topk_accuracy
from model.training import repeatable
from model.views import Crop
from skeletons import protocols, store
from skeletons.loader import batches, resident
from stages import console, params, results, scratch


def main(transfer: str) -> str:
    p = params.read()
    settings, schedule = p["transfer"], p["finetune"]
    source, target, protocol = (p["transfers"][transfer][k] for k in ("run", "target", "protocol"))
    rule = p["datasets"][target]["protocols"][protocol]
    clips = store.read(f"data/{target}.zarr")
    train, test = protocols.split(clips, rule)
    device = distributed.join(p["machine"]["device"])
    repeatable(device)
    frames = resident(clips.frames, device)
    offsets = torch.from_numpy(clips.offsets).to(frames.device)
    labels = torch.from_numpy(clips.label.astype(np.int64)).to(device)
    weights = f"data/weights/{source}.pt"
    checkpoint = scratch.checkpoint(
        f"transfer-{transfer}",
        settings=[
            p["seed"],
            p["transfers"][transfer],
            p["runs"][source],
            rule,
            schedule,
            settings,
            p["embed"],
        ],
        inputs=(f"data/{target}.zarr", weights),
        minutes=p["machine"]["checkpoint_minutes"],
    )
    scores = fine_tune(
        load_encoder(weights),
        frames,
        offsets,
        labels,
        batches(
            train,
            batch=schedule["batch"],
            seed=p["seed"],
            drop_last=False,
            rank=distributed.rank(),
            ranks=distributed.ranks(),
        ),
        torch.from_numpy(test),
        classes=clips.classes,
        kind=p["runs"][source]["stream"],
        crop=Crop(**schedule["crop"]),
        seed=p["seed"],
        epochs=settings["epochs"],
        milestones=settings["milestones"],
        lr=schedule["lr"],
        momentum=schedule["momentum"],
        weight_decay=schedule["weight_decay"],
        precision=schedule["precision"],
        checkpoint=checkpoint,
        keep=p["embed"]["keep"],
        batch=p["embed"]["batch"],
        progress=console.bar(f"transfer {transfer}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    top1, top5 = topk_accuracy(scores, torch.from_numpy(clips.label[test]).long(), (1, 5))
    said = results.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
