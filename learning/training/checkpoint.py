"""The state of an unfinished run on disk, from which the next start of the same run continues."""

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from errors import UserError
from machine.host import atomic
from model.network import weights

DAYS = 30  # that a killed run may wait for its next start


class Unsaved(UserError):
    """The state could not be written; what was saved before it is kept."""


class Checkpoint:
    """An atomically written checkpoint, deleted when the run finishes.

    Each process that uses it holds a lock beside it while it lives, so that nobody deletes it. Two
    that do the same run at once save the same states.

    Args:
        path: of the file; its name tells this run from all others.
        minutes: how far apart saves are.
        writes: whether this process saves; every process loads.
        stale: which other checkpoints in the folder are deleted when this run finishes, as a
            pattern of their names without suffix: those of its parts, whose names begin with its
            own, and what was last used `DAYS` ago. One that a process uses stays.
        abandoned: whether whoever waits for this run is gone; it is then saved and ends.
    """

    def __init__(
        self,
        path: Path,
        *,
        minutes: float = 10.0,
        writes: bool = True,
        stale: str = "",
        abandoned: Callable[[], bool] = lambda: False,
    ) -> None:
        self.path, self.minutes, self.writes, self.stale = path, minutes, writes, stale
        self.abandoned = abandoned
        self.last = time.monotonic()
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(path.with_suffix(f".{secrets.token_hex(4)}.lock"))
            self.lock.acquire()

    def part(self, name: str) -> "Checkpoint":
        """The checkpoint of a part of this run, which is done after the part."""
        return Checkpoint(
            self.path.with_name(f"{self.path.stem}-{name}{self.path.suffix}"),
            minutes=self.minutes,
            writes=self.writes,
            abandoned=self.abandoned,
        )

    @property
    def beside(self) -> Path:
        """A folder for what else the run is to keep until it is done; deleted with the rest."""
        return self.path.with_suffix(".beside")

    @property
    def due(self) -> bool:
        """True if the last save, or the start, is `minutes` ago."""
        return time.monotonic() - self.last >= 60 * self.minutes

    def load(self) -> dict[str, Any] | None:
        """The state last saved, on the CPU, or None.

        A file that cannot be read, or is of another run, is set aside under another name and
        reported in a line on standard error.
        """
        try:
            saved = weights.load(self.path)
            if saved["run"] == self.path.name:
                return saved["state"]
            reason = "it is of another run"
        except FileNotFoundError:
            return None
        except Exception:  # damaged bytes may raise anything
            reason = "it is damaged"
        aside = self.path.with_suffix(".aside")
        if self.writes:
            os.replace(self.path, aside)
            print(f"{self.path}: {reason}; moved to {aside.name}, starting anew", file=sys.stderr)
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Replaces what was saved before; the file is on disk when this returns.

        Raises Unsaved when it cannot be written, as on a full disk.
        """
        self.last = time.monotonic()
        if not self.writes:
            return
        data = weights.packed({"run": self.path.name, "state": state})
        try:
            with atomic.file(self.path) as beside, beside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Unsaved(
                f"{self.path}: {error.strerror}; when that is fixed, run again: what was saved "
                "before is kept"
            ) from None

    def remove(self) -> None:
        """Deletes the files of this run, which is done, and those of stale ones."""
        if not self.writes:
            return
        self.lock.release()
        found = {self.path.stem}
        if self.stale:
            others = self.path.parent.glob(f"{self.stale}.lock")
            found |= {lock.name.rsplit(".", 2)[0] for lock in others}
        long_ago = time.time() - DAYS * 24 * 3600
        for name in found:
            locks = [*self.path.parent.glob(f"{escape(name)}.{'[0-9a-f]' * 8}.lock")]
            used = max((_modified(lock) for lock in locks), default=0.0)
            if not name.startswith(self.path.stem) and used >= long_ago:
                continue
            if all([_unlocked(lock) for lock in locks]):
                for suffix in (".pt", ".pt-unfinished", ".aside"):
                    (self.path.parent / f"{name}{suffix}").unlink(missing_ok=True)
                shutil.rmtree(self.path.parent / f"{name}.beside", ignore_errors=True)


def _unlocked(path: Path) -> bool:
    """True if the lock is free; removes a dead process's lock file."""
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            path.unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def _modified(path: Path) -> float:
    """When a file was last modified; one that is gone by now, just now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
