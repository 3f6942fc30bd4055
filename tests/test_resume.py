"""Stages that are really killed, DVC and all: the next run goes on, to the same bytes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from clone import Clone

from experiment.artifacts import tables

RUN = "ntu60-xsub"
STAGE = f"pretrain@{RUN}"
EPOCHS = 12
LONG = {"machine": {"checkpoint_minutes": 0}, "pretrain": {"epochs": EPOCHS}}


def weights(clone: Clone) -> bytes:
    return (clone.path / f"data/weights/{RUN}.pt").read_bytes()


@pytest.fixture(scope="module")
def long(small: Clone) -> Clone:
    """A clone before a pretraining of some seconds, saved after every step. Copy it."""
    small.change(LONG)
    small.dvc("repro", "check")
    return small


@pytest.fixture(scope="module")
def expected(long: Clone, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of a run that nothing interrupts."""
    clone = long.copy(tmp_path_factory.mktemp("whole") / "clone")
    clone.dvc("repro", STAGE)
    return weights(clone)


def kill(clone: Clone, *arguments: str, alone: bool = False) -> list[float]:
    """Starts a `dvc` command and kills all of its processes, or it `alone`, at some moment after
    the first epoch's end was saved; the clips per second of the epochs that are saved.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=clone.path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not saved(clone):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(random.random() / 2)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended, which is an error by itself
            if alone:
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if alone:
        until = time.monotonic() + 60
        while running(process.pid):
            assert time.monotonic() < until, "the stage goes on without its dvc"
            time.sleep(0.05)
    return [row["clips_per_second"] for row in saved(clone)]


def running(group: int) -> bool:
    """True if a process of this group lives."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        states = [p.status() for p in psutil.process_iter() if os.getpgid(p.pid) == group]
        return any(state != psutil.STATUS_ZOMBIE for state in states)
    return False


def saved(clone: Clone) -> list[dict[str, float]]:
    """The curve in the clone's only checkpoint, if there is one yet."""
    for checkpoint in (clone.path / ".scratch").glob("*.pt"):
        return torch.load(checkpoint, weights_only=True)["state"]["curve"]
    return []


@pytest.mark.parametrize(
    ("arguments", "alone"),
    [
        (("repro",), False),
        (("repro",), True),
        (("exp", "run", "--temp", "--name", "killed"), False),
    ],
    ids=["repro", "dvc alone", "experiment"],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    long: Clone, tmp_path: Path, expected: bytes, arguments: tuple[str, ...], alone: bool
) -> None:
    clone = long.copy(tmp_path / "clone")
    before = kill(clone, *arguments, STAGE, alone=alone)
    assert before
    clone.dvc(*arguments, STAGE)
    if "exp" in arguments:
        clone.dvc("exp", "apply", "killed")
    assert weights(clone) == expected
    rows = tables.read(f"{clone.path}/metrics/pretrain/{RUN}.json")
    assert len(rows) == EPOCHS
    # The epochs before were not run again: it would have taken them another time.
    for row, speed in zip(rows, before, strict=False):
        assert row["clips_per_second"] == pytest.approx(speed, rel=1e-5)
    assert not list((clone.path / ".scratch").glob("*.pt"))
