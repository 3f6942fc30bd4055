"""Pretrain the encoder of one run by contrast: the protocol's training clips, without labels.

Labels, and the test clips, only say how far it has come, and only if `pretrain.probe` asks.
"""

import sys

import torch

from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import checks, params
from experiment.parameters.schema import Params
from experiment.running import scratch
from experiment.running.kept_epochs import Kept
from experiment.workflow import console
from learning.training.augment import Augmentations
from learning.training.batches import batches
from learning.training.contrast import TERMS, SCDNet
from learning.training.device_clips import DeviceClips
from learning.training.loop import deterministic
from learning.training.pretrain import linear_curve, pretrain
from learning.training.schedule import SGD
from machine.devices import distributed, provenance
from model.network.encoder import Encoder, Projector, compile_in_training, save_encoder
from skeletons.clips import protocols, store
from skeletons.clips.layout import Layout

SCHEDULE = {"epochs", "lr", "weight_decay", "milestones", "schedule", "warmup"}
FIRST = ("epoch", "loss", *TERMS)  # columns of the curve, before all others


def main(run: str) -> str:
    p = params.read()
    settings, described = p.pretrain, p.runs[run]
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.dataset))
    for line in checks.on_run(p, "runs", run, stored) if distributed.rank() == 0 else ():
        print(f"pretrain {run}: {line}", file=sys.stderr)
    clips = DeviceClips.of(stored, device)
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    train, test = protocols.split(stored, rule, name=described.protocol, testless=True)
    network = untrained(p, stored.layout).to(device)
    encoder = network.query.encoder
    checkpoint = scratch.checkpoint("pretrain", run, minutes=p.machine.checkpoint_minutes)
    kept = Kept(checkpoint, settings.keep_epochs)
    notes = {**dict(described), **provenance.made_on(device)}
    probe = linear_curve(
        encoder,
        clips,
        train,
        test,
        stream=described.stream,
        every=settings.probe.every if len(test) else None,
        centre_crop=settings.probe.centre_crop,
        batch=settings.batch,
        probe=settings.probe.model_dump(exclude={"every", "centre_crop"}),
        seed=p.seed,
    )
    curve = pretrain(
        network,
        clips,
        batches(train, batch=settings.batch, seed=p.seed, drop_last=True),
        stream=described.stream,
        augmentations=Augmentations.of(p.views.model_dump()),
        sgd=SGD(momentum=settings.sgd_momentum, **settings.model_dump(include=SCHEDULE)),
        precision=settings.precision,
        seed=p.seed,
        fill_queue=settings.queue_start == "keys",
        evaluate=kept.then(probe, encoder, **notes),
        checkpoint=checkpoint,
        progress=console.bar(f"pretrain {run}", "step"),
    )
    if distributed.rank() > 0:
        return ""
    weights = artifacts.weights(run)
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, weights, **notes)
    kept.place(artifacts.epochs(run))
    rows = [{**{name: row[name] for name in FIRST if name in row}, **row} for row in curve]
    tables.write_rows(f"metrics/pretrain/{run}.json", rows)
    checkpoint.remove()
    return f"{weights}: loss {curve[-1]['loss']:.3f} after {len(curve)} epochs"


def untrained(p: Params, layout: Layout) -> SCDNet:
    """The network as it starts."""
    torch.manual_seed(p.seed)
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **dict(p.encoder))
    projector = Projector(encoder, projection=p.pretrain.projection)
    keys = {"queue", "momentum", "temperature", "terms"}
    network = SCDNet(projector, **p.pretrain.model_dump(include=keys))
    if p.pretrain.compile:
        compile_in_training(network.query.encoder, network.key.encoder)
    return network


if __name__ == "__main__":
    console.run(main)
