"""Inputs of the stages that train or evaluate an encoder, from the parameters and the artifacts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from errors import UserError
from experiment import artifacts
from experiment.parameters.schema import Params, Run
from learning.probing.features import Viewing
from learning.training.augment import Augmentations
from learning.training.device_clips import DeviceClips, Task
from learning.training.loop import Recipe
from learning.training.settings import SGD
from machine.devices import distributed
from model.network.encoder import Encoder, load_encoder
from skeletons.clips import protocols, store
from skeletons.clips.layout import Layout
from skeletons.clips.store import Clips


def load(
    p: Params,
    run: Run,
    *,
    check: Callable[[Clips], Any] = lambda stored: None,
    testless: bool = False,
) -> Task:
    """The clips of a run's dataset on this process's device, with the labels of its protocol, and
    its sides, of which that for testing may be empty if `testless`. Raises UserError as
    `protocols.split` and `check`, which is given the stored clips, do.
    """
    device = distributed.join(p.machine.device)
    stored = store.read(artifacts.store(run.dataset))
    check(stored)
    rule = p.datasets[run.dataset].protocols[run.protocol].rule
    train, test = protocols.split(stored, rule, name=run.protocol, testless=testless)
    return Task(DeviceClips.of(protocols.relabelled(stored, rule), device), train, test, run.stream)


def pretrained(p: Params, run: str, layout: Layout, file: Path | None = None) -> Encoder:
    """A run's encoder, or that of another `file` of the run. Raises UserError if it notes another
    dataset, protocol or stream than the parameters, or is not one of clips of this layout.
    """
    path = file or artifacts.weights(run)
    encoder = load_encoder(path)
    for name, value in p.runs[run].noted.items():
        if (noted := encoder.notes.get(name, value)) != value:
            raise UserError(
                f"{path}: weights of another run: their {name} is {noted}, that of {run} is "
                f"{value}: dvc checkout {path} --force, or dvc repro pretrain@{run}"
            )
    encoder.check_layout(parents=layout.parents, bodies=layout.bodies)
    return encoder


def viewing(p: Params, encoder: Encoder, task: Task, *, precision: str = "fp32") -> Viewing:
    """The way that `embed` of the parameters has an encoder see clips."""
    return Viewing(
        size=encoder.architecture["frames"],
        stream=task.stream,
        centre_crop=p.embed.centre_crop,
        batch=p.embed.batch,
        precision=precision,
    )


def fine_tuning(
    p: Params, *, epochs: int, lr: float, milestones: Sequence[int], seed: int
) -> Recipe:
    """The recipe of `semi`, `transfer` and `supervised`, by `finetune` of the parameters."""
    settings = p.finetune
    return Recipe(
        sgd=SGD(
            epochs=epochs,
            lr=lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            milestones=milestones,
            schedule=settings.schedule,
        ),
        batch=settings.batch,
        seed=seed,
        augmentations=Augmentations.of(settings.views),
        precision=settings.precision,
    )
