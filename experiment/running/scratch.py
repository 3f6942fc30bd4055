"""Unfinished work of a stage: a file named after everything that DVC tracks for the stage.

So another parameter, another input or other code is other work, and the same work goes on where it
was interrupted.
"""

import glob
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiment import artifacts
from experiment.workflow import dvc_process, dvc_yaml
from learning.training.checkpoint import Checkpoint
from machine.devices import distributed
from model.network.encoder import Encoder, save_encoder

Evaluate = Callable[[int], dict[str, float | None]]
_DIGITS = 16  # of the hash in a name


def checkpoint(stage: str, key: str, *, minutes: float) -> Checkpoint:
    """The checkpoint of this entry of a stage of dvc.yaml, saved every `minutes`.

    The number of processes belongs to its name, too. When it is done, what killed runs of this name
    left long ago is deleted with it.
    """
    return Checkpoint(
        artifacts.scratch() / f"{stage}-{key}-{identity(stage, key)}.pt",
        minutes=minutes,
        writes=distributed.rank() == 0,
        stale=f"{glob.escape(f'{stage}-{key}')}-{'[0-9a-f]' * _DIGITS}*",
        abandoned=dvc_process.gone(),
    )


def identity(stage: str, key: str) -> str:
    """A hash of the parameters, code and data that dvc.yaml names for this entry of a stage."""
    described = dvc_yaml.describe(stage, key)
    settings = [dvc_yaml.parameters(described), distributed.ranks()]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in dvc_yaml.files(described):
        digest.update(path.as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_DIGITS]


class Kept:
    """Encoders of the stated epochs (counted from 1) of a run that `checkpoint` belongs to.

    DVC deletes a stage's results before it starts it, and a killed run goes on; so they lie beside
    the checkpoint until `place`.
    """

    def __init__(self, checkpoint: Checkpoint, epochs: Sequence[int]) -> None:
        self.folder = checkpoint.beside
        self.epochs = set(epochs) if checkpoint.writes else set()

    def then(self, evaluate: Evaluate, encoder: Encoder, **notes: Any) -> Evaluate:
        """A function to call after an epoch: it keeps the encoder, with `notes`, if asked for, and
        evaluates.
        """

        def after(epoch: int) -> dict[str, float | None]:
            if epoch + 1 in self.epochs:
                self.folder.mkdir(parents=True, exist_ok=True)
                save_encoder(encoder, self.folder / f"{epoch + 1}.pt", **notes)
            return evaluate(epoch)

        return after

    def place(self, folder: Path) -> None:
        """Copy them into `folder`, a new one, or a file that says that there are none: of an empty
        folder DVC would warn.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for epoch in sorted(self.epochs):
            shutil.copyfile(self.folder / f"{epoch}.pt", folder / f"{epoch}.pt")
        if not self.epochs:
            (folder / "none.txt").write_text("pretrain.keep_epochs names no epoch\n")
