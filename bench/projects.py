"""Temporary projects, in which stages run by any checkout's code, and the cost of a command."""

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
_YAML = YAML(typ="safe")
_PROTOCOLS = {"all": {"train": {"replication": [0, 1]}}}
_WHOLE = ("sources", "runs", "supervised_runs", "transfers", "ensembles")


def make(folder: Path, checkout: Path, preset: str, changes: dict[str, Any], **mine: str) -> Path:
    """A project folder with the code of a checkout, and the parameters of one of its presets with
    changes and no other runs. `mine`: format, layout and archive of a dataset of that name.

    A checkout without presets/default.yaml has the default in params.yaml.
    """
    if not folder.exists():
        shutil.copytree(checkout / "datasets", folder / "datasets")
        (folder / "metrics").mkdir()
        for path in checkout.iterdir():
            if path.name not in ("data", "datasets", "metrics", "params.yaml"):
                (folder / path.name).symlink_to(path)
    default = checkout / "presets/default.yaml"
    files = [default if default.exists() else checkout / "params.yaml"]
    files += [checkout / f"presets/{preset}.yaml"] if preset != "default" else []
    values = functools.reduce(_merged, map(_YAML.load, files))
    whole = {name: changes.get(name, {}) for name in _WHOLE}
    _YAML.dump(_merged(values, changes) | whole, folder / "params.yaml")
    if mine:
        archives = {"skeletons": [mine["archive"]]}
        described = {"format": mine["format"], "layout": mine["layout"], "classes": 120}
        described |= {"archives": archives, "protocols": _PROTOCOLS}
        if (checkout / "skeletons/sensors").is_dir():  # others refuse the key
            described["normal_form"] = "released"
        _YAML.dump(described, folder / "datasets/mine.yaml")
    return folder


def stage(project: Path, name: str, key: str) -> dict[str, float]:
    """Run a stage in a project; its cost, as of `measure`."""
    return measure([sys.executable, "-m", f"stages.{name}", key], project, code_of(project))


def measure(command: Sequence[str], folder: Path, env: dict[str, str]) -> dict[str, float]:
    """Run a command in a folder: its seconds by the clock and of CPU, and peak of memory (MiB), of
    all its processes, those too that it did not wait for. If it fails, this program ends."""
    # PR_SET_CHILD_SUBREAPER: grandchildren that are left become children, which can be waited for
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
    start, cpu, peak = time.perf_counter(), 0.0, [0.0]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL)
    threading.Thread(target=_watch, args=(process.pid, peak), daemon=True).start()
    with suppress(ChildProcessError):
        while True:
            pid, status, usage = os.wait4(-1, 0)
            cpu += usage.ru_utime + usage.ru_stime
            if pid == process.pid:
                wall = time.perf_counter() - start
                process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in {folder}")
    return {"s": round(wall, 3), "cpu_s": round(cpu, 3), "MiB": round(peak[0])}


def code_of(project: Path) -> dict[str, str]:
    """Environment variables by which a process has the code of a project."""
    paths = filter(None, [str(project), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values with changes, section by section."""
    both = dict(values)
    for name, change in changes.items():
        nested = isinstance(change, dict) and isinstance(both.get(name), dict)
        both[name] = _merged(both[name], change) if nested else change
    return both


def _watch(pid: int, peak: list[float]) -> None:
    """Keep the largest sum of the resident memory of a process and its descendants."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        while True:
            total = process.memory_info().rss
            for child in process.children(recursive=True):
                with suppress(psutil.Error):
                    total += child.memory_info().rss
            peak[0] = max(peak[0], total / 2**20)
            time.sleep(0.1)
