"""Where a stage keeps unfinished work: a file named after everything that determines its result."""

import glob
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from experiment import launcher
from learning.checkpoint import Checkpoint
from model import distributed

_DIGITS = 16  # of the hash in a name


def checkpoint(name: str, *, settings: Any, inputs: tuple[str, ...], minutes: float) -> Checkpoint:
    """The checkpoint of the run `name` under `.scratch/` of the project, DVC's copies included.

    Another parameter in `settings`, another content of the files or folders `inputs`, other code
    or another number of processes is another run. When it is done, what killed runs of this name
    left long ago is deleted, too.
    """
    digest = hashlib.sha256(json.dumps([settings, distributed.ranks()], sort_keys=True).encode())
    here = Path.cwd()
    code = (Path(getattr(module, "__file__", None) or "") for module in [*sys.modules.values()])
    files = sorted(path for path in code if path.is_relative_to(here) and ".venv" not in path.parts)
    for path in map(Path, inputs):
        files += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for path in files:
        digest.update(os.path.relpath(path, here).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    folder = Path(os.environ.get("DVC_ROOT", ""), ".scratch")
    return Checkpoint(
        folder / f"{name}-{digest.hexdigest()[:_DIGITS]}.pt",
        minutes=minutes,
        writes=distributed.rank() == 0,
        stale=f"{glob.escape(name)}-{'[0-9a-f]' * _DIGITS}*",
        abandoned=launcher.gone(),
    )
