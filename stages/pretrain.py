"""Pretrain the encoder of one run by contrast: the protocol's training clips, without labels.

Labels, and the test clips, only say how far it has come, and only if `pretrain.probe` asks.
"""

import sys

import torch

from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import checks, params
from experiment.parameters.schema import Params
from experiment.running import inputs, scratch
from experiment.workflow import console
from learning.probing.features import Viewing, linear_curve
from learning.training.augment import Augmentations
from learning.training.loop import Recipe
from learning.training.pretrain import SCDNet, pretrain
from learning.training.settings import SGD, TERMS
from machine.devices import distributed, reproducibility
from model.network.encoder import Encoder, Projector, compile_in_training, save_encoder
from skeletons.clips.layout import Layout
from skeletons.clips.store import Clips

SCHEDULE = {"epochs", "lr", "weight_decay", "milestones", "schedule", "warmup"}
PROBE = {"every", "centre_crop", "batch"}  # settings of it that are not SGD's
FIRST = ("epoch", "loss", *TERMS)  # columns of the curve, before all others


def main(run: str) -> str:
    p = params.read()
    settings, described = p.pretrain, p.runs[run]

    def check(stored: Clips) -> None:
        for line in checks.on_run(p, "runs", run, stored) if distributed.rank() == 0 else ():
            print(f"pretrain {run}: {line}", file=sys.stderr)

    task = inputs.load(p, described, check=check, testless=True)
    if described.weights:
        return taken(p, run, task.clips.layout)
    device = task.clips.device
    reproducibility.deterministic(device)
    network = untrained(p, task.clips.layout).to(device)
    encoder = network.query.encoder
    checkpoint = scratch.checkpoint("pretrain", run, minutes=p.machine.checkpoint_minutes)
    kept = scratch.Kept(checkpoint, settings.keep_epochs)
    notes = {**described.noted, **reproducibility.made_on(device)}
    probe = linear_curve(
        encoder,
        task,
        Viewing(
            size=encoder.architecture["frames"],
            stream=task.stream,
            centre_crop=settings.probe.centre_crop,
            batch=settings.batch,
        ),
        every=settings.probe.every,
        sgd=SGD(**settings.probe.model_dump(exclude=PROBE)),
        batch=settings.probe.batch,
        seed=p.seed,
    )
    curve = pretrain(
        network,
        task,
        Recipe(
            sgd=SGD(momentum=settings.sgd_momentum, **settings.model_dump(include=SCHEDULE)),
            batch=settings.batch,
            seed=p.seed,
            augmentations=Augmentations.of(p.views.model_dump()),
            precision=settings.precision,
        ),
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


def taken(p: Params, run: str, layout: Layout) -> str:
    """The weights of the run are those given: nothing is pretrained, the curve is empty."""
    encoder = inputs.pretrained(p, run, layout, artifacts.given(run))
    if distributed.rank() > 0:
        return ""
    save_encoder(encoder, artifacts.weights(run), **encoder.notes)
    scratch.Kept(scratch.checkpoint("pretrain", run, minutes=0), ()).place(artifacts.epochs(run))
    tables.write_rows(f"metrics/pretrain/{run}.json", [])
    return f"{artifacts.weights(run)}: from {encoder.notes['from']}"


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
