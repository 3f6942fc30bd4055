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
from learning.finetuning import finetune
from learning.training.augment import Augmentations
from learning.training.device_clips import DeviceClips, Task
from learning.training.loop import Recipe, Step, train
from learning.training.pretrain import SCDNet
from learning.training.randomness import batches
from learning.training.settings import SGD
from learning.training.views import View
from machine.devices import distributed
from model.network.encoder import Encoder, Projector
from skeletons.clips.layout import Layout

PARENTS = (0, 0, 1, 1)
PAIRS = (5, 0)  # how many clips have a second body


def join(rank: int, ranks: int, folder: str) -> None:
    """One of several processes under srun."""
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


def work(rank: int, ranks: int, folder: str) -> None:
    """All of what one process does here, or one of several, which take seconds to start."""
    join(rank, ranks, folder)
    found = {f"{pairs} pairs": pretrained(pairs) for pairs in PAIRS}
    torch.save({**found, **fine_tuned()}, Path(folder, f"{ranks}-{rank}.pt"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def pretrained(pairs: int) -> dict[str, Any]:
    """Two epochs of a tiny network on clips of which the first `pairs` have a second body."""
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

    loader = batches(np.arange(18), batch=4, seed=0, drop_last=True)
    curve = train(Step(step), network, loader, sgd=SGD(epochs=2, lr=0.05), seed=1)
    return {"state": network.state_dict(), "curve": curve, "seen": seen}


def fine_tuned() -> dict[str, dict[str, Any]]:
    """Two epochs of 7 clips in batches of 4: the last of an epoch has 3; and of 5: the last has 1,
    fewer than processes.
    """
    torch.manual_seed(0)
    encoder = Encoder(parents=PARENTS, frames=8, width=8, dim=16, heads=2, dropout=0.0).double()
    frames = torch.randn(7 * 10, 2, len(PARENTS), 3).double()
    frames[20:, 1] = 0
    clips = DeviceClips(
        frames=frames,
        offsets=torch.arange(0, 71, 10),
        labels=torch.tensor([0, 1, 2, 0, 1, 2, 0]),
        classes=3,
        layout=Layout("tree", 4, 2, ((1, 0), (2, 1), (3, 1)), (0, 1, 3, 2), 0, (0, 1), (2, 3)),
        device=torch.device("cpu"),
    )
    seen: list[int] = []
    view = finetune.training_view

    def notes(clips: DeviceClips, indices: torch.Tensor, **settings: Any) -> View:
        seen.extend(indices.tolist())
        return view(clips, indices, **settings)

    finetune.training_view = notes
    torch.set_default_dtype(torch.float64)  # of the classifier's linear layer
    recipe = Recipe(
        sgd=SGD(epochs=2, lr=0.05),
        batch=4,
        seed=1,
        augmentations=Augmentations.of({"crop": {"min_frames": 8}}),
    )
    found = {}
    for count in (6, 4, 7, 5):
        classifier = finetune.fine_tune(
            encoder,
            Task(clips, train=np.arange(count), test=np.arange(0), stream="joint"),
            recipe,
        )
        found[str(count)] = {"state": classifier.state_dict(), "seen": seen.copy()}
        seen.clear()
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The findings of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (folder / "port").write_text(str(port))
    for ranks in (1, 2):
        mp.spawn(work, (ranks, str(folder)), nprocs=ranks)
    names = ("1-0", "2-0", "2-1")
    return [torch.load(folder / f"{name}.pt", weights_only=True) for name in names]


def test_two_processes_fine_tune_as_one_whatever_the_number_of_clips(results: list[Any]) -> None:
    """Every clip once an epoch, and every step that of one process."""
    one, first, second = results
    assert sorted(one["7"]["seen"]) == sorted([*range(7)] * 2)
    assert sorted(first["7"]["seen"] + second["7"]["seen"]) == sorted(one["7"]["seen"])
    # The fifth clip is a batch alone, which both compute.
    assert sorted(one["5"]["seen"]) == sorted([*range(5)] * 2)
    assert len(first["5"]["seen"] + second["5"]["seen"]) == 2 * (4 + 2)
    assert set(first["5"]["seen"]) | set(second["5"]["seen"]) == set(range(5))
    for count in ("7", "5"):
        for name, array in one[count]["state"].items():
            assert torch.equal(first[count]["state"][name], second[count]["state"][name]), name
            torch.testing.assert_close(
                first[count]["state"][name], array, rtol=1e-6, atol=1e-6, msg=f"{count} {name}"
            )


@pytest.mark.parametrize("pairs", PAIRS)
def test_two_processes_equal_one(pairs: int, results: list[Any]) -> None:
    one, first, second = (found[f"{pairs} pairs"] for found in results)
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


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "ranks", lambda: 3)
    with pytest.raises(UserError, match="a batch of 16 clips cannot be divided among 3 processes"):
        batches(np.arange(18), batch=16, seed=0, drop_last=True)


def test_the_parts_of_a_batch_weigh_as_much_as_their_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed, "ranks", lambda: 3)
    means = torch.arange(8.0).square()
    for count in range(3, 9):
        total, clips = 0.0, []
        for rank in range(3):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            with distributed.dealt(torch.arange(count)) as (part, weight):
                total += weight * means[part].mean().item()
                clips += part.tolist()
        assert sorted(clips) == list(range(count))
        assert total / 3 == pytest.approx(means[:count].mean().item())


def test_how_processes_are_launched_is_no_part_of_a_stage() -> None:
    """The command in dvc.yaml names a variable of the shell, so its value is in no lock file."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for name in ("pretrain", "semi", "transfer", "supervised"):
        assert stages[name]["do"]["cmd"].startswith(r"\${LAUNCH:-python} -m stages.")
