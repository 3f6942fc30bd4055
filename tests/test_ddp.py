"""Two processes train as one: the same queues in both, the same result as a single process."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import yaml

from errors import UserError
from learning.batches import batches
from learning.contrast import SCDNet
from learning.loop import train
from model import distributed
from model.encoder import Encoder, Projector

PARENTS = (0, 0, 1, 1)


def run(rank: int, ranks: int, folder: str, pairs: int) -> None:
    """Two epochs of a tiny network under srun; only the first `pairs` clips have a second body."""
    os.environ |= {
        "SLURM_STEP_NUM_TASKS": str(ranks),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_JOB_ID": "7",
        "SLURM_LAUNCH_NODE_IPADDR": "localhost",
        "MASTER_PORT": Path(folder, "port").read_text(),
    }
    torch.set_num_threads(1)
    distributed.join("cpu")
    torch.manual_seed(0)
    encoder = Encoder(parents=PARENTS, frames=8, width=8, dim=16, heads=2, dropout=0.0)
    network = SCDNet(Projector(encoder, projection=8), queue=20).train()
    network.query.double(), network.key.double()  # rounding is not what is compared
    together = distributed.parallel(network)
    frames = torch.randn(18, 3, 8, len(PARENTS), 2).double()
    frames[pairs:, ..., 1] = 0
    seen: list[int] = []

    def step(clips: torch.Tensor, epoch: int) -> Any:
        seen.extend(clips.tolist())
        return together(frames[clips], frames[clips].flip(2))

    loader = batches(np.arange(18), batch=4, seed=0, drop_last=True, rank=rank, ranks=ranks)
    curve = train(
        step, network, loader, seed=1, epochs=2, lr=0.05, milestones=[], momentum=0.9,
        weight_decay=0.0,
    )  # fmt: skip
    torch.save(
        {"state": network.state_dict(), "curve": curve, "seen": seen},
        Path(folder, f"{ranks}-{rank}.pt"),
    )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("pairs", [5, 0])
def test_two_processes_equal_one(pairs: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (tmp_path / "port").write_text(str(port))
    mp.spawn(run, (1, str(tmp_path), pairs), nprocs=1)
    mp.spawn(run, (2, str(tmp_path), pairs), nprocs=2)
    one, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    assert not set(first["seen"][:8]) & set(second["seen"][:8])
    assert sorted(first["seen"] + second["seen"]) == sorted(one["seen"])
    for name, array in first["state"].items():
        assert torch.equal(array, second["state"][name]), name
        torch.testing.assert_close(array, one["state"][name], rtol=1e-6, atol=1e-6, msg=name)
    assert one["state"]["pointer"] == first["state"]["pointer"] == 2 * 4 * 4 % 20
    for ours, alone in zip(first["curve"], one["curve"], strict=True):
        for figure in ("loss", "ti", "si", "it", "is", "accuracy", "lr"):
            torch.testing.assert_close(ours[figure], alone[figure], rtol=1e-6, atol=1e-6)


def test_srun_that_does_not_say_where_it_was_called_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(UserError, match="set MASTER_ADDR to that node"):
        distributed.join("cpu")


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 16 clips cannot be divided among 3 processes"):
        batches(np.arange(18), batch=16, seed=0, drop_last=True, ranks=3)


def test_how_processes_are_launched_is_no_part_of_a_stage() -> None:
    """The command in dvc.yaml names a variable of the shell, so its value is in no lock file."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for name in ("pretrain", "semi", "transfer", "supervised"):
        assert stages[name]["do"]["cmd"].startswith(r"\${LAUNCH:-python} -m stages.")
