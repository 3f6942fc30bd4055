"""Semi-supervised evaluation of one run: fine-tune everything on a fraction of the labels."""

import statistics

import numpy as np
import torch

from model.encoder import load_encoder
from model.finetune import fine_tune
from model.probes import draw_clips, topk_accuracy
from model.views import Crop
from skeletons import protocols, store
from skeletons.loader import batches
from stages import console, params, results


def main(run: str) -> str:
    p = params.read()
    settings, schedule = p["semi"], p["finetune"]
    dataset, protocol, stream = (p["runs"][run][k] for k in ("dataset", "protocol", "stream"))
    clips = store.read(f"data/{dataset}.zarr")
    train, test = protocols.split(clips, p["datasets"][dataset]["protocols"][protocol])
    encoder = load_encoder(f"data/weights/{run}.pt")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frames, offsets, labels = (
        torch.from_numpy(array).to(device)
        for array in (clips.frames, clips.offsets, clips.label.astype(np.int64))
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
        scores = fine_tune(
            encoder,
            frames,
            offsets,
            labels,
            batches(chosen, batch=schedule["batch"], seed=p["seed"] + draw, drop_last=False),
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
            **p["embed"],
            progress=console.bar(f"semi {run}: {fraction:.0%}, draw {draw + 1}", "epoch"),
        )
        return topk_accuracy(scores, torch.from_numpy(clips.label[test]).long(), (1,))[0]

    rows = []
    for fraction in settings["fractions"]:
        draws = [accuracy(fraction, draw) for draw in range(settings["draws"])]
        mean, spread = statistics.mean(draws), statistics.pstdev(draws)
        rows.append({"fraction": fraction, "top1": mean, "std": spread})
    path = f"metrics/semi/{run}.json"
    results.write_rows(path, rows)
    said = ", ".join(f"{100 * row['fraction']:g}% of the labels: {row['top1']:.2f}" for row in rows)
    return f"{path}: {said}"


if __name__ == "__main__":
    console.run(main)
