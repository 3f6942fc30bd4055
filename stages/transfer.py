"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

import numpy as np
import torch

from model.encoder import load_encoder
from model.finetune import fine_tune
from model.probes import topk_accuracy
from model.views import Crop
from skeletons import protocols, store
from skeletons.loader import batches
from stages import console, params, results


def main(transfer: str) -> str:
    p = params.read()
    settings, schedule = p["transfer"], p["finetune"]
    source, target, protocol = (p["transfers"][transfer][k] for k in ("run", "target", "protocol"))
    clips = store.read(f"data/{target}.zarr")
    train, test = protocols.split(clips, p["datasets"][target]["protocols"][protocol])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frames, offsets, labels = (
        torch.from_numpy(array).to(device)
        for array in (clips.frames, clips.offsets, clips.label.astype(np.int64))
    )
    scores = fine_tune(
        load_encoder(f"data/weights/{source}.pt"),
        frames,
        offsets,
        labels,
        batches(train, batch=schedule["batch"], seed=p["seed"], drop_last=False),
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
        **p["embed"],
        progress=console.bar(f"transfer {transfer}", "epoch"),
    )
    top1, top5 = topk_accuracy(scores, torch.from_numpy(clips.label[test]).long(), (1, 5))
    return results.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)


if __name__ == "__main__":
    console.run(main)
