"""A run whose `dvc` is killed saves and ends, with whatever processes between them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Trains without end: the file `step` has the number of the step that is under way.
RUN = """
import os, sys
from pathlib import Path
import numpy as np, torch
from experiment.workflow import console, dvc_process
from learning.training.randomness import batches
from learning.training.checkpoint import Checkpoint
from learning.training.loop import Step, train
from learning.training.settings import SGD
from machine.devices import distributed

distributed.join("cpu")
torch.set_num_threads(1)
weight = torch.nn.Linear(1, 1)
network = distributed.parallel(weight)
last = distributed.rank() == int(os.environ.get("WORLD_SIZE", 1)) - 1
step = 0

def loss(clips, epoch):
    global step
    step += 1
    if last:
        Path("step").write_text(f"{os.getpid()} {step}")
    return network(torch.ones(1, 1)).square().mean(), {}

folder = Path(os.environ.get("DVC_ROOT", ""), ".scratch")
checkpoint = Checkpoint(
    folder / "run-0.pt",
    minutes=60,
    writes=distributed.rank() == 0,
    abandoned=dvc_process.gone(),
)
loader = batches(np.arange(1000), batch=4, seed=0, drop_last=True)
sgd = SGD(epochs=10**6, lr=1e-9)
console.run(lambda: train(Step(loss), weight, loader, sgd=sgd, seed=0, checkpoint=checkpoint))
"""
# Stands for `dvc`: runs the command that it is given, in a shell, and waits.
DVC = "import subprocess, sys\nsubprocess.run(sys.argv[1:])\n"


def start(folder: Path, *command: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    """`dvc`, which runs a command; the process that trains, in its second step or later."""
    (folder / "run.py").write_text(RUN)
    (folder / "dvc").write_text(DVC)
    known = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    root = Path(__file__).parent.parent
    with (folder / "stderr").open("w") as stderr:
        dvc = subprocess.Popen(
            [sys.executable, "dvc", *command],
            cwd=folder,
            env={**known, **environment, "PYTHONPATH": str(root), "PYTHON": sys.executable},
            stderr=stderr,
        )
    waiting = time.monotonic() + 60
    while time.monotonic() < waiting:
        words = (folder / "step").read_text().split() if (folder / "step").exists() else []
        if len(words) == 2 and int(words[1]) > 1:
            return dvc, int(words[0])
        time.sleep(0.02)
    dvc.kill()
    raise AssertionError((folder / "stderr").read_text())


def ends(process: int, seconds: float) -> bool:
    """Whether a process that is not our child ends within this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stat = Path(f"/proc/{process}/stat")
        try:
            if stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True  # nobody reaps it where there is no init
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes in /proc")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    "command",
    [
        ("sh", "-c", '"$PYTHON" run.py'),
        ("sh", "-c", '"$PYTHON" run.py; true'),
        ("sh", "-c", 'sh -c "\\"$PYTHON\\" run.py; true"; true'),
        ("torchrun", "--standalone", "--nproc-per-node=2", "run.py"),
    ],
    ids=["exec", "shell", "launcher", "torchrun"],
)
def test_a_run_whose_dvc_is_killed_saves_and_ends(
    tmp_path: Path, command: tuple[str, ...], number: int
) -> None:
    dvc, trains = start(tmp_path, *command, DVC_ROOT=str(tmp_path))
    dvc.send_signal(number)
    dvc.wait()
    try:
        assert ends(trains, 30)
    finally:
        if not ends(trains, 0.1):
            os.kill(trains, signal.SIGKILL)
    said = (tmp_path / "stderr").read_text()
    assert said.count("run: stopped before step") == 1
    assert "[rank" not in said  # a traceback's lines
    assert len(list((tmp_path / ".scratch").glob("run-*.pt"))) == 1


def test_a_run_started_by_hand_outlives_its_shell(tmp_path: Path) -> None:
    dvc, trains = start(tmp_path, "sh", "-c", '"$PYTHON" run.py; true')
    try:
        dvc.kill()
        dvc.wait()
        assert not ends(trains, 1)
    finally:
        os.kill(trains, signal.SIGKILL)
    assert not list((tmp_path / ".scratch").glob("run-*.pt"))
