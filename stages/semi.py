"""Semi-supervised evaluation of one run: fine-tune everything on a fraction of the labels."""

import statistics

import numpy as np
import torch

from model import distributed
from model.checkpoint import Checkpoint
from model.encoder import load_encoder
from model.finetune import fine_tune
from model.probes import draw_clips, topk_accuracy
from model.training import repeatable
from model.views import Crop
from skeletons import protocols, store
from skeletons.loader import batches, resident
from stages import console, params, results, scratch


def main(run: str) -> str:
    p = params.read()
    settings, schedule = p["semi"], p["finetune"]
    dataset, protocol, stream = (p["runs"][run][k] for k in ("dataset", "protocol", "stream"))
    rule = p["datasets"][dataset]["protocols"][protocol]
    clips = store.read(f"data/{dataset}.zarr")
    train, test = protocols.split(clips, rule)
    weights = f"data/weights/{run}.pt"
    encoder = load_encoder(weights)
    device = distributed.join(p["machine"]["device"])
    repeatable(device)
    frames = resident(clips.frames, device)
    offsets = torch.from_numpy(clips.offsets).to(frames.device)
    labels = torch.from_numpy(clips.label.astype(np.int64)).to(device)

    def checkpoint(part: str = "") -> Checkpoint:
        return scratch.checkpoint(
            f"semi-{run}",
            part=part,
            settings=[p["seed"], p["runs"][run], rule, schedule, settings, p["embed"]],
            inputs=(f"data/{dataset}.zarr", weights),
            minutes=p["machine"]["checkpoint_minutes"],
        )

    def accuracy(fraction: float, draw: int) -> float:
        chosen = train[
            draw_clips(
                clips.label[train],
                fraction,
                seed=p["seed"],
                draw=draw,
                balanced=settings["balanced"],
            )
        ]
        unfinished = checkpoint(f"-{fraction}-{draw}")
        scores = fine_tune(
            encoder,
            frames,
            offsets,
            labels,
            batches(
                chosen,
                batch=schedule["batch"],
                seed=p["seed"] + draw,
                drop_last=False,
                rank=distributed.rank(),
                ranks=distributed.ranks(),
            ),
            torch.from_numpy(test),
            classes=clips.classes,
            kind=stream,
            crop=Crop(**schedule["crop"]),
            seed=p["seed"] + draw,
            epochs=settings["epochs"],
            milestones=settings["milestones"],
            lr=schedule["lr"],
            momentum=schedule["momentum"],
            weight_decay=schedule["weight_decay"],
            precision=schedule["precision"],
            checkpoint=unfinished,
            keep=p["embed"]["keep"],
            batch=p["embed"]["batch"],
            progress=console.bar(f"semi {run}: {fraction:.0%}, draw {draw + 1}", "step"),
        )
        (top1,) = topk_accuracy(scores, torch.from_numpy(clips.label[test]).long(), (1,))
        found[f"{fraction}-{draw}"] = top1
        finished.save(found)
        unfinished.remove()
        return top1

    finished = checkpoint()
    found: dict[str, float] = finished.load() or {}
    rows = []
    for fraction in settings["fractions"]:
        draws = [
            found[part] if (part := f"{fraction}-{draw}") in found else accuracy(fraction, draw)
            for draw in range(settings["draws"])
        ]
        mean, spread = statistics.mean(draws), statistics.pstdev(draws)
        rows.append({"fraction": fraction, "top1": mean, "std": spread})
    if distributed.rank() > 0:
        return ""
    path = f"metrics/semi/{run}.json"
    results.write_rows(path, rows)
    finished.remove()
    said = ", ".join(f"{100 * row['fraction']:g}% of the labels: {row['top1']:.2f}" for row in rows)
    return f"{path}: {said}"


if __name__ == "__main__":
    console.run(main)
