"""The `dvc` that runs this stage, however many shells and launchers lie between; and one that
fetches a file.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil


def gone() -> Callable[[], bool]:
    """A function that says whether `dvc` has ended without waiting for this process.

    A process whose parent ends gets another one: so each process from this one up to `dvc` is asked
    for its parent. A stage that was started by hand may outlive the shell it was started from.
    """
    links = _links(psutil.Process()) if "DVC_ROOT" in os.environ else []

    def changed() -> bool:
        try:
            return any(child.ppid() != parent for child, parent in links)
        except psutil.NoSuchProcess:
            return True

    return changed


def _links(process: psutil.Process) -> list[tuple[psutil.Process, int]]:
    """This process and its ancestors below `dvc`, each with the number of its parent; the first
    alone where no ancestor is `dvc`, as when a program runs the pipeline.
    """
    links = []
    for parent in process.parents():
        links.append((process, parent.pid))
        if _is_dvc(parent):
            return links
        process = parent
    return links[:1]


def _is_dvc(process: psutil.Process) -> bool:
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(argument).name in ("dvc", "dvc.exe") for argument in arguments[:3])


def fetch(url: str, target: Path) -> bool:
    """Download a file or folder with DVC, which knows many kinds of storage and their credentials.

    False if DVC could not, and has said why.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    return not subprocess.run([sys.executable, "-m", "dvc", "get-url", url, str(target)]).returncode
