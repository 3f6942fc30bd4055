"""The state of an unfinished run on disk, from which the next start of the same run continues."""

import contextlib
import fcntl
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

DAYS = 30  # that a killed run may wait for its next start


class Unsaved(ValueError):
    """The state could not be written; what was saved before it is kept."""


class Checkpoint:
    """A file that appears whole or not at all, and goes when the run is done.

    Args:
        path: of the file; its name tells this run from all others.
        minutes: how far apart saves are.
        writes: whether this process saves; every process loads.
        stale: which other checkpoints in the folder go when this run is done, as a pattern of their
            names without suffix: those of its parts, whose names begin with its own, and what was
            last used `DAYS` ago. One that a process uses stays.
    """

    def __init__(
        self, path: Path, *, minutes: float = 10.0, writes: bool = True, stale: str = ""
    ) -> None:
        self.path, self.minutes, self.writes, self.stale = path, minutes, writes, stale
        self.last = time.monotonic()
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.used = _locked(path.with_suffix(".lock"), fcntl.LOCK_SH)

    @property
    def due(self) -> bool:
        """Whether the last save, or the start, is `minutes` ago."""
        return time.monotonic() - self.last >= 60 * self.minutes

    def load(self) -> dict[str, Any] | None:
        """The state last saved, on the CPU, or None.

        A file that cannot be read, or is of another run, is set aside under another name and
        reported in a line on standard error.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch.load does not look at checksums
                if archive.testzip():
                    raise zipfile.BadZipFile
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
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
        partial = self.path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save({"run": self.path.name, "state": state}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise Unsaved(
                f"{self.path}: {error.strerror}; when that is mended, run again: what was saved "
                "before is kept"
            ) from None

    def remove(self) -> None:
        """The run is done: its files go, and those of stale ones."""
        if not self.writes:
            return
        self.used.close()
        own = self.path.with_suffix(".lock")
        found = self.path.parent.glob(f"{self.stale}.lock") if self.stale else ()
        long_ago = time.time() - DAYS * 24 * 3600
        for path in {own, *found}:
            # of another process: in use, or gone by now
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                if path.stem.startswith(own.stem) or path.stat().st_mtime < long_ago:
                    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        for suffix in (".pt", ".partial", ".aside", ".lock"):
                            path.with_suffix(suffix).unlink(missing_ok=True)


def _locked(path: Path, kind: int) -> IO[str]:
    """This file, locked as `flock` calls it until it is closed."""
    while True:
        file = path.open("w")
        try:
            fcntl.flock(file, kind)
        except BlockingIOError:
            file.close()
            raise
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was another process's, which deleted it
