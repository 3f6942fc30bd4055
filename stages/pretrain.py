"""Contrastive pretraining of one run: the protocol's training clips, without their labels.

Labels, and the test clips, only say how far it has come, and only if `pretrain.probe` asks.
"""

from pathlib import Path
from typing import Any

import torch

from experiment import artifacts as results
from experiment import console, params, scratch
from learning.batches import batches
from learning.clips import DeviceClips
from learning.contrast import TERMS, SCDNet
from learning.loop import deterministic
from learning.pretrain import linear_curve, pretrain
from learning.schedule import SGD
from learning.views import Augmentations
from model import distributed
from model.encoder import Encoder, Projector, save_encoder
from skeletons import protocols, store
from skeletons.layout import Layout

SGD_KEYS = ("epochs", "lr", "weight_decay", "milestones", "schedule", "warmup")
FIRST = ("epoch", "loss", *TERMS)  # columns of the curve, before all others


def main(run: str) -> str:
    p = params.read()
    settings, seed = p["pretrain"], p["seed"]
    dataset, protocol, stream = (p["runs"][run][k] for k in ("dataset", "protocol", "stream"))
    rule = p["datasets"][dataset]["protocols"][protocol]
    device = distributed.join(p["machine"]["device"])
    deterministic(device)
    stored = store.read(f"data/{dataset}.zarr")
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule)
    network = untrained(p, stored.layout).to(device)
    encoder = network.query.encoder
    probe, shared = dict(settings["probe"]), {"stream": stream, "seed": seed}
    checkpoint = scratch.checkpoint(
        f"pretrain-{run}",
        settings=[seed, p["runs"][run], rule, p["views"], p["encoder"], settings],
        inputs=(f"data/{dataset}.zarr",),
        minutes=p["machine"]["checkpoint_minutes"],
    )
    curve = pretrain(
        network,
        clips,
        batches(train, batch=settings["batch"], seed=seed, drop_last=True),
        **shared,
        augmentations=Augmentations.of(p["views"]),
        sgd=SGD(momentum=settings["sgd_momentum"], **{k: settings[k] for k in SGD_KEYS}),
        precision=settings["precision"],
        fill_queue=settings["queue_start"] == "keys",
        evaluate=linear_curve(
            encoder,
            clips,
            train,
            test,
            **shared,
            every=probe.pop("every"),
            centre_crop=probe.pop("centre_crop"),
            batch=settings["batch"],
            probe=probe,
        ),
        checkpoint=checkpoint,
        progress=console.bar(f"pretrain {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    weights = Path(f"data/weights/{run}.pt")
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, weights, dataset=dataset, protocol=protocol, stream=stream)
    rows = [{**{name: row[name] for name in FIRST if name in row}, **row} for row in curve]
    results.write_csv(f"metrics/pretrain/{run}.csv", rows)
    checkpoint.remove()
    return f"{weights}: loss {curve[-1]['loss']:.3f} after {len(curve)} epochs"


def untrained(p: dict[str, Any], layout: Layout) -> SCDNet:
    """The network as it starts."""
    settings = p["pretrain"]
    torch.manual_seed(p["seed"])
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **p["encoder"])
    projector = Projector(encoder, projection=settings["projection"])
    keys = ("queue", "momentum", "temperature", "terms")
    network = SCDNet(projector, **{key: settings[key] for key in keys})
    if settings["compile"]:
        network.query.compile()
        network.key.compile()
    return network


if __name__ == "__main__":
    console.run(main)
