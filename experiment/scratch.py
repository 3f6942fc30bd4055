"""Where a stage keeps unfinished work: a file named after everything that DVC tracks for the stage.

So another parameter, another input or other code is other work, and the same work goes on where it
was interrupted.
"""

import glob
import hashlib
import json
from collections.abc import Callable

from experiment import artifacts, pipeline
from learning.checkpoint import Checkpoint
from model import distributed

_DIGITS = 16  # of the hash in a name


def checkpoints(stage: str, key: str, *, minutes: float) -> Callable[..., Checkpoint]:
    """A function that gives the checkpoint of this entry of a stage of dvc.yaml, or of a `part`.

    What the stage depends on is hashed here, once; the number of processes belongs to it. The
    checkpoint without a part is removed last, and takes those with it that killed runs of this
    name left long ago. `minutes` pass between saves.
    """
    digest = identity(stage, key)

    def checkpoint(part: str = "") -> Checkpoint:
        return Checkpoint(
            artifacts.scratch() / f"{stage}-{key}-{digest}{part}.pt",
            minutes=minutes,
            writes=distributed.rank() == 0,
            stale="" if part else f"{glob.escape(f'{stage}-{key}')}-{'[0-9a-f]' * _DIGITS}*",
        )

    return checkpoint


def identity(stage: str, key: str) -> str:
    """A hash of the parameters, code and data that dvc.yaml names for this entry of a stage."""
    described = pipeline.describe(stage, key)
    settings = [pipeline.parameters(described), distributed.ranks()]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in pipeline.files(described):
        digest.update(path.as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_DIGITS]
