"""Encoders of earlier epochs: kept in .scratch/ while the run is trained, then beside the last."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from learning.training.checkpoint import Checkpoint
from model.network.encoder import Encoder, save_encoder

Evaluate = Callable[[int], dict[str, float | None]]


class Kept:
    """The encoders of the stated epochs (counted from 1) of a run that `checkpoint` belongs to.

    DVC deletes a stage's results before it starts it, and a killed run goes on; so they lie beside
    the checkpoint until `place`.
    """

    def __init__(self, checkpoint: Checkpoint, epochs: Sequence[int]) -> None:
        self.folder = checkpoint.beside
        self.epochs = set(epochs) if checkpoint.writes else set()

    def then(self, evaluate: Evaluate, encoder: Encoder, **notes: Any) -> Evaluate:
        """Return a function to call after an epoch: it keeps the encoder, with `notes`, if asked
        for, and evaluates.
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
