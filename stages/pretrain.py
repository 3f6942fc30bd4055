"""Contrastive pretraining of one run: the protocol's training clips, without their labels.

Labels, and the test clips, only measure how far it has come, and only if `pretrain.probe` asks.
"""

from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from experiment import console, metrics, params, scratch
from learning.batches import batches, resident
from learning.contrast import TERMS, SCDNet
from learning.features import extract
from learning.loop import autocast, deterministic, train
from learning.probes import linear_probe
from learning.views import Crop, Flip, Rotate, Shear, SpatialMask, TemporalMask, training_view
from model import distributed
from model.encoder import Encoder, Projector, save_encoder
from model.folding import folded
from skeletons import protocols, store

FIRST = ("epoch", "loss", *TERMS)  # columns of the curve, before all others


def main(run: str) -> str:
    p = params.read()
    settings, views, seed = p.pretrain.model_dump(), p.views.model_dump(), p.seed
    chosen_run = p.runs[run]
    dataset, protocol, stream = chosen_run.dataset, chosen_run.protocol, chosen_run.stream
    rule = p.datasets[dataset].protocols[protocol].rule
    clips = store.read(f"data/{dataset}.zarr")
    chosen, test = protocols.split(clips, rule)
    device = distributed.join(p.machine.device)
    deterministic(device)
    frames = resident(clips.frames, device)
    offsets = torch.from_numpy(clips.offsets).to(frames.device)
    labels = torch.from_numpy(clips.label.astype(np.int64))

    torch.manual_seed(seed)
    encoder = Encoder(parents=clips.layout.parents, bodies=clips.layout.bodies, **dict(p.encoder))
    network = SCDNet(
        Projector(encoder, projection=settings["projection"]),
        queue=settings["queue"],
        momentum=settings["momentum"],
        temperature=settings["temperature"],
        terms=settings["terms"],
    ).to(device)
    if settings["compile"]:
        network.query.compile()
        network.key.compile()
    together = distributed.parallel(network, unused=len(settings["terms"]) < len(TERMS))

    def pair(clips_of_batch: Tensor, epoch: int) -> Tensor:
        indices = clips_of_batch.to(frames.device)
        return training_view(
            frames,
            offsets,
            indices.repeat(2),
            size=p.encoder.frames,
            kind=stream,
            parents=clips.layout.parents,
            swap=clips.layout.swap,
            crop=Crop(**views["crop"]),
            rotate=Rotate(**views["rotate"]),
            flip=Flip(**views["flip"]),
            shear=Shear(**views["shear"]),
            spatial_mask=SpatialMask(**views["spatial_mask"]),
            temporal_mask=TemporalMask(**views["temporal_mask"]),
            seed=seed,
            epoch=epoch,
            view=torch.arange(2, device=frames.device).repeat_interleave(len(indices)),
        ).x.to(device)

    def step(clips_of_batch: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        both = pair(clips_of_batch, epoch)
        with autocast(device, settings["precision"]):
            return together(*both.chunk(2))

    def measure(epoch: int) -> dict[str, float | None]:
        """The linear accuracy of the encoder as it is, in the epochs that ask for it."""
        probe = dict(settings["probe"])
        every, centre_crop = probe.pop("every"), probe.pop("centre_crop")
        if not every or distributed.rank() > 0:
            return {}
        if (epoch + 1) % every:
            return {"linear_top1": None}
        network = folded(encoder).represent  # a copy

        def features(part: np.ndarray) -> Tensor:
            return extract(
                network,
                frames,
                offsets,
                torch.from_numpy(part),
                size=p.encoder.frames,
                kind=stream,
                parents=clips.layout.parents,
                centre_crop=centre_crop,
                batch=settings["batch"],
                device=device,
            )

        trained = linear_probe(
            features(chosen),
            labels[chosen],
            features(test),
            labels[test],
            classes=clips.classes,
            **probe,
            seed=seed,
            device=device,
        )
        return {"linear_top1": trained.last.top1}

    checkpoint = scratch.checkpoints("pretrain", run, minutes=p.machine.checkpoint_minutes)()
    loader = batches(
        chosen,
        batch=settings["batch"],
        seed=seed,
        drop_last=True,
        rank=distributed.rank(),
        ranks=distributed.ranks(),
    )
    if settings["queue_start"] == "keys":
        for some in islice(cycle(loader), settings["queue"] // settings["batch"]):
            network.warm_up_queue(pair(some, -1).chunk(2)[1])
    curve = train(
        step,
        network,
        loader,
        seed=seed,
        epochs=settings["epochs"],
        lr=settings["lr"],
        milestones=settings["milestones"],
        schedule=settings["schedule"],
        warmup=settings["warmup"],
        momentum=settings["sgd_momentum"],
        weight_decay=settings["weight_decay"],
        measure=measure,
        checkpoint=checkpoint,
        progress=console.bar(f"pretrain {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    weights = Path(f"data/weights/{run}.pt")
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, weights, dataset=dataset, protocol=protocol, stream=stream)
    metrics.write_csv(
        f"metrics/pretrain/{run}.csv",
        [{**{column: row[column] for column in FIRST if column in row}, **row} for row in curve],
    )
    checkpoint.remove()
    return f"{weights}: loss {curve[-1]['loss']:.3f} after {len(curve)} epochs"


if __name__ == "__main__":
    console.run(main)
