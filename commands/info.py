"""Print what a result depends on besides its parameters: commit, versions, device, cache, remote.

A bug report needs it. Remotes are named; where they are is not printed.

    python -m commands.info                # this checkout and this machine
    python -m commands.info ntu60-xsub     # and on what a run's weights were made
"""

import argparse
import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from dvc.exceptions import DvcException
from dvc.repo import Repo

from experiment import artifacts
from experiment.parameters import params
from experiment.workflow import console
from machine.devices import distributed, reproducibility
from model.network import weights

PACKAGES = ("torch", "numpy", "zarr", "numcodecs", "torchdata", "einops", "pydantic", "isal", "dvc")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.info",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", help="a run of params.yaml with weights")
    run = parser.parse_args().run

    def said() -> str:
        rows = [*here(), *(of_run(run) if run else ())]
        return "\n".join(f"{name:<9} {value}" for name, value in rows)

    console.say("info", said)


def here() -> Iterator[tuple[str, str]]:
    """Names and values of this checkout and this machine."""
    yield "commit", _commit()
    yield "python", f"{platform.python_version()}, {platform.platform()}"
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    versions["torch"] = str(torch.__version__)  # with the build, as in the notes of weights
    yield "packages", ", ".join(f"{name} {version}" for name, version in versions.items())
    memory = psutil.virtual_memory().total / 2**30
    yield "processor", f"{os.cpu_count()} cores, {memory:.0f} GiB"
    yield "device", reproducibility.device_name(distributed.join())
    yield from _dvc()


def of_run(run: str) -> Iterator[tuple[str, str]]:
    """The environment in which the weights of a run were made, as they say."""
    _ = params.read().runs[run]  # says which there are
    path = artifacts.weights(run)
    notes = weights.read(path).get("notes", {})
    made = [f"{name} {notes[name]}" for name in reproducibility.MADE_ON if name in notes]
    yield "weights", f"{path}: {', '.join(made) or 'they do not say on what they were made'}"


def _commit() -> str:
    describe = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none: not a git repository"


def _dvc() -> Iterator[tuple[str, str]]:
    try:
        repo = Repo()
    except DvcException as error:
        yield "cache", f"none: {error}"
        return
    with repo:
        folder = Path(repo.cache.local.path)
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / 2**30
        links = ", ".join(repo.config["cache"].get("type", ["reflink", "copy"]))
        yield "cache", f"{folder}, {free:.0f} GiB free, links: {links}"
        default = repo.config["core"].get("remote")
        remotes = [
            f"{name} ({_kind(described['url'])}{', default' * (name == default)})"
            for name, described in repo.config["remote"].items()
        ]
        yield "remote", ", ".join(remotes) or "none"


def _kind(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme if separator else "folder"


if __name__ == "__main__":
    main()
