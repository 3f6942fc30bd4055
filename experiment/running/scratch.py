"""Unfinished work of a stage: a file named after everything that DVC tracks for the stage.

So another parameter, another input or other code is other work, and the same work goes on where it
was interrupted.
"""

import glob
import hashlib
import json

from experiment import artifacts
from experiment.workflow import dvc_process, dvc_yaml
from learning.training.checkpoint import Checkpoint
from machine.devices import distributed

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
