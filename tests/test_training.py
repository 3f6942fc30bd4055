"""The training loop: what it learns, what it saves, what it refuses."""

import contextlib
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINECT_V2
from torch import Tensor, nn

from errors import UserError
from experiment.running import scratch
from learning.training.augment import Augmentations
from learning.training.checkpoint import Checkpoint, Unsaved
from learning.training.device_clips import DeviceClips, Task
from learning.training.loop import FLAT, NotFinite, Recipe, Step, train, unchanged
from learning.training.optimiser import Optimiser
from learning.training.pretrain import SCDNet, pretrain
from learning.training.randomness import batches
from learning.training.settings import SGD
from machine.devices.reproducibility import computing
from model.network.encoder import Encoder, Projector

CLIPS = np.arange(10)
SEED = 3


def sgd(epochs: int, **settings: Any) -> SGD:
    return SGD(**{"epochs": epochs, "lr": 0.1, "momentum": 0.9, "milestones": [2], **settings})


def line() -> tuple[nn.Module, Any]:
    """A line to fit to y = 2 x, with dropout so that random numbers matter."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def step(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        x = clips[:, None] / 10
        return (network(x) - 2 * x).square().mean(), {"clips": clips.double().mean()}

    return network, step


def loader() -> Any:
    return batches(CLIPS, batch=4, seed=1, drop_last=True)


def test_the_curve_has_means_rates_and_epochs() -> None:
    network, step = line()
    curve = train(Step(step), network, loader(), sgd=sgd(4), seed=SEED)
    assert [row["epoch"] for row in curve] == [0, 1, 2, 3]
    assert [row["lr"] for row in curve] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    for epoch, row in enumerate(curve):
        order = loader()
        order.sampler.set_epoch(epoch)
        assert row["clips"] == pytest.approx(float(torch.cat(list(order)).double().mean()))


@pytest.mark.parametrize(
    ("schedule", "warmup", "rates"),
    [
        ("step", 0, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
        ("step", 2, [0.5, 1, 1, 1, 0.1, 0.1, 0.1, 0.1]),
        ("cosine", 0, [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]),
        ("cosine", 4, [0.25, 0.5 * 0.961940, 0.75 * 0.853553, 0.691342, 0.5, 0.308658]),
    ],
)
def test_the_rate_of_each_step(schedule: str, warmup: int, rates: list[float]) -> None:
    settings = sgd(4, lr=1.0, schedule=schedule, warmup=warmup)
    found = [settings.rate(step, steps=2) for step in range(len(rates))]
    assert found == pytest.approx(rates, abs=1e-6)


def test_the_optimiser_is_pytorchs_sgd_and_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    start = [torch.randn(n, 3) for n in (4, 5, 6)]
    ours, theirs = ([t.clone().requires_grad_() for t in start] for _ in range(2))
    settings = {"momentum": 0.9, "weight_decay": 0.1}
    optimiser = Optimiser(ours, sgd(1, **settings))
    reference = torch.optim.SGD(theirs, lr=1, fused=True, **settings)
    # The last has no gradient and stays, in spite of its decay; the second rests for a step.
    for lr, moved in ((0.5, 2), (0.2, 2), (0.1, 1), (0.1, 2)):
        optimiser.update(sum((t**3).sum() for t in ours[:moved]), lr)
        reference.zero_grad()
        sum((t**3).sum() for t in theirs[:moved]).backward()
        reference.param_groups[0]["lr"] = lr
        reference.step()
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
        buffers = optimiser.buffers
        optimiser = Optimiser(ours, sgd(1, **settings))
        optimiser.buffers = buffers
    assert torch.equal(ours[2], start[2])


def test_the_same_seed_gives_the_same_bits_whatever_was_drawn_before() -> None:
    weights = []
    for draws in (0, 5):
        network, step = line()
        torch.rand(draws)
        train(Step(step), network, loader(), sgd=sgd(2), seed=SEED)
        weights.append(network.state_dict())
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name])


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    network, step = line()

    def breaks(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss, figures = step(clips, epoch)
        return loss * (float("nan") if epoch == 1 else 1), figures

    checkpoint = Checkpoint(tmp_path / "run.pt", minutes=0)
    message = r"step 2 \(epoch 1\) at learning rate 0.1; .*run.pt keeps the last good state"
    with pytest.raises(NotFinite, match=message):
        train(Step(breaks), network, loader(), sgd=sgd(4), seed=SEED, checkpoint=checkpoint)
    kept = checkpoint.load()
    assert kept is not None
    assert (kept["epoch"], kept["step"]) == (1, 0)
    assert all(array.isfinite().all() for array in kept["network"].values())


def test_a_bad_loss_is_named_with_the_rate_of_its_step_and_no_state_that_is_not_there(
    tmp_path: Path,
) -> None:
    network, step = line()
    losses = iter([math.nan, 1.0])
    checkpoint = Checkpoint(tmp_path / "run.pt")
    with pytest.raises(NotFinite, match=r"step 0 \(epoch 0\) at learning rate 0.005$"):
        train(
            Step(lambda clips, epoch: (step(clips, epoch)[0] * next(losses), {})),
            network,
            loader(),
            sgd=sgd(1, warmup=20),
            seed=SEED,
            checkpoint=checkpoint,
        )


def test_bad_weights_of_a_good_loss_are_not_saved(tmp_path: Path) -> None:
    network, _ = line()
    checkpoint = Checkpoint(tmp_path / "run.pt", minutes=0)

    def breaks(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        weight = network[2].weight
        return (weight - weight.detach()).abs().sqrt().sum(), {}  # 0, of gradient NaN

    with pytest.raises(NotFinite, match="the weights are not finite in step 0 "):
        train(Step(breaks), network, loader(), sgd=sgd(1), seed=SEED, checkpoint=checkpoint)
    assert not checkpoint.path.exists()


def test_bad_weights_after_the_last_step_are_not_handed_out() -> None:
    network, _ = line()

    def breaks(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        weight = network[2].weight
        root = (weight - weight.detach()).abs().sqrt().sum()  # 0, of gradient NaN
        return root if epoch == 1 and loader.last else weight.sum().square(), {}

    class Loader:
        """Knows which batch is the last of an epoch."""

        def __init__(self) -> None:
            self.inner, self.last = batches(CLIPS, batch=4, seed=1, drop_last=True), False
            self.sampler = self.inner.sampler

        def __len__(self) -> int:
            return len(self.inner)

        def __iter__(self) -> Any:
            for number, batch in enumerate(self.inner):
                self.last = number == len(self) - 1
                yield batch

    loader = Loader()
    with pytest.raises(NotFinite, match=r"the weights are not finite in step 3 \(epoch 1\)"):
        train(Step(breaks), network, loader, sgd=sgd(2), seed=SEED)


# ---- Nothing is learnt ---------------------------------------------------------------------------


def test_values_that_do_not_change_are_recognised() -> None:
    flat = [9.0, 4 * math.log(257), 4 * math.log(257) * (1 + 1e-6), 4 * math.log(257)]
    assert unchanged(flat, count=3)
    assert not unchanged(flat, count=4)
    assert not unchanged(flat[1:], count=4)  # not so many yet
    assert not unchanged([5.0, 5.001, 5.0], count=3)
    assert not unchanged([0.0, 0.0, 0.0], count=3)  # all is learnt


@pytest.mark.parametrize("learns", [True, False])
def test_a_loss_that_stays_the_same_is_said_once(
    learns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    network, step = line()

    def collapsed(clips: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        return 4 * math.log(257) + 0 * network[0].weight.sum(), {}

    train(
        Step(step if learns else collapsed),
        network,
        loader(),
        sgd=sgd(FLAT + 2, milestones=[]),
        seed=SEED,
    )
    said = capsys.readouterr().err
    expected = "epoch 4: the loss is 22.1963, as in the 4 epochs before: nothing is learnt\n"
    assert said == ("" if learns else expected)


@pytest.mark.parametrize(
    ("stream", "views", "refused"),
    [
        ("motion", {}, True),
        ("joint", {}, False),
        ("joint", {"spatial_mask": {"probability": 1.0, "joints": 25}}, True),
        ("joint", {"temporal_mask": {"probability": 1.0, "blocks": 4, "masked": 4}}, True),
        ("joint", {"temporal_mask": {"probability": 1.0, "blocks": 4, "masked": 3}}, False),
    ],
)
def test_views_that_are_all_alike_are_refused(
    stream: str, views: dict[str, Any], refused: bool
) -> None:
    """Of clips that stand still, each in another pose."""
    poses = np.random.default_rng(0).normal(size=(6, 1, 2, 25, 3)).astype(np.float32)
    clips = DeviceClips.unlabelled([np.repeat(pose, 20, axis=0) for pose in poses], KINECT_V2)
    encoder = Encoder(parents=KINECT_V2.parents, frames=8, width=8, dim=16, heads=2)
    network = SCDNet(Projector(encoder, projection=8), queue=4)
    augmentations = Augmentations.of({"crop": {"min_frames": 8}, **views})
    recipe = Recipe(sgd=sgd(1), batch=2, seed=SEED, augmentations=augmentations)
    task = Task(clips, train=np.arange(6), test=np.arange(0), stream=stream)
    alike = pytest.raises(UserError, match=f"^all {stream} views are alike")
    with alike if refused else contextlib.nullcontext():
        assert pretrain(network, task, recipe)


def test_without_a_checkpoint_a_bad_loss_is_still_named() -> None:
    network, step = line()
    with pytest.raises(NotFinite, match="step 0"):
        train(
            Step(lambda clips, epoch: (step(clips, epoch)[0] / 0, {})),
            network,
            loader(),
            sgd=sgd(1),
            seed=SEED,
        )


@pytest.mark.parametrize("harm", ["truncated", "flipped", "text", "foreign"])
def test_other_checkpoints_are_set_aside(
    harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    checkpoint.save({"array": torch.zeros(1000)})
    whole = checkpoint.path.read_bytes()
    match harm:
        case "truncated":
            checkpoint.path.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            middle = len(whole) // 2
            checkpoint.path.write_bytes(
                whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
            )
        case "text":
            checkpoint.path.write_text("not a checkpoint")
        case "foreign":
            other = Checkpoint(tmp_path / "other.pt")
            other.save({"array": torch.ones(3)})
            other.path.rename(checkpoint.path)
    assert checkpoint.load() is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "run.pt" in said
    assert "starting anew" in said
    assert not checkpoint.path.exists()
    assert (tmp_path / "run.aside").exists()


def test_a_changed_byte_never_ends_a_run_nor_changes_its_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    checkpoint.save({"numbers": [0.1, 0.2], "name": "epoch"})
    whole = checkpoint.path.read_bytes()
    aside = 0
    for position in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[position] ^= 0b10000001
        checkpoint.path.write_bytes(changed)
        state = checkpoint.load()
        assert state in (None, {"numbers": [0.1, 0.2], "name": "epoch"})
        aside += state is None
    assert aside > 100
    assert capsys.readouterr().err.count("starting anew") == aside


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.999])
def test_a_full_disk_is_said_and_the_last_saved_state_is_kept(part: float, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run.pt")
    state = {"step": 1, "array": torch.zeros(100_000)}
    checkpoint.save(state)
    files, limit = set(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    size = int(part * checkpoint.path.stat().st_size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        with pytest.raises(Unsaved, match=r"run.pt: File too large; when that is fixed, run"):
            checkpoint.save({**state, "step": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert checkpoint.load()["step"] == 1
    assert set(tmp_path.iterdir()) == files


def test_a_finished_run_takes_what_killed_ones_of_its_name_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts, and a month later those of other settings, damaged or not; not what a process
    uses, nor another name's, nor what may still go on.
    """
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder = tmp_path / ".scratch"

    def run(name: str, part: str = "", *, lr: int) -> Checkpoint:
        monkeypatch.setattr(scratch, "identity", lambda stage, key: f"{lr:016x}")
        found = scratch.checkpoint("semi", name, minutes=1)
        found = found.part(part) if part else found
        found.save({})
        return found

    def files(checkpoint: Checkpoint) -> set[Path]:
        return set(folder.glob(f"{checkpoint.path.stem}.*"))

    left = [run("a", lr=1), run("a", "0.5-0", lr=1), run("a", lr=2), run("a-b", lr=1)]
    left[2].path.with_suffix(".aside").touch()
    left[2].path.with_suffix(".pt-unfinished").touch()
    recent, part = run("a", lr=5), run("a", "0.5-0", lr=4)
    for killed in (*left, recent, part):
        killed.lock.release()  # as its process ended
    used, other, done = run("a", lr=3), left[-1], run("a", lr=4)
    month_ago = time.time() - 31 * 24 * 3600
    for old in (*left, used):
        for file in files(old):
            os.utime(file, (month_ago, month_ago))
    done.remove()
    assert set(folder.iterdir()) == files(used) | files(other) | files(recent)
    assert all(len(files(kept)) == 2 for kept in (used, other, recent))  # a lock each
    again = run("a", lr=3)  # the same run twice at once: the last to end takes it away
    used.remove()
    assert again.path.exists()
    again.remove()
    assert not files(again)


def test_only_the_writing_process_writes(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "run.pt", writes=False).save({})
    assert not list(tmp_path.iterdir())


def test_bf16_is_used_for_products_and_close_to_fp32() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(8, 64), torch.randn(64, 8)
    cpu = torch.device("cpu")
    with computing(cpu, "bf16"):
        low = a @ b
    with computing(cpu, "fp32"):
        assert (a @ b).dtype == torch.float32
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), a @ b, rtol=0.02, atol=0.2)


# ---- Killed and started again --------------------------------------------------------------------

RUN = """
import os, signal, sys
import numpy as np, torch
from pathlib import Path
from learning.training.checkpoint import Checkpoint
from learning.training.pretrain import SCDNet
from model.network.encoder import Encoder, Projector
from learning.training.loop import Step, train
from learning.training.settings import SGD
from learning.training.randomness import batches

torch.manual_seed(0)
torch.set_num_threads(1)
folder, kill, at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
parents = (0, 0, 1, 1)
encoder = Encoder(parents=parents, frames=8, width=8, dim=16, heads=2, dropout=0.3)
network = SCDNet(Projector(encoder, projection=8), queue=12)
frames = torch.randn(14, 3, 8, 4, 2)
steps = 0

def step(clips, epoch):
    global steps
    steps += 1
    if steps == at:
        os.kill(os.getpid(), getattr(signal, kill))
    x = frames[clips] + epoch
    return network(x, x.flip(2))

checkpoint = Checkpoint(folder / "run.pt", minutes=0)
loader = batches(np.arange(14), batch=4, seed=0, drop_last=True)
sgd = SGD(epochs=4, lr=0.1, milestones=[2], momentum=0.9, weight_decay=1e-4)
curve = train(Step(step), network, loader, sgd=sgd, seed=5, checkpoint=checkpoint)
checkpoint.remove()
for row in curve:
    del row["clips_per_second"]
torch.save({"state": network.state_dict(), "curve": curve}, folder / "result.pt")
print(steps)
"""


def start(folder: Path, kill: str = "SIGKILL", at: int = -1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN, str(folder), kill, str(at)], capture_output=True, text=True
    )


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """12 steps: killed in the 5th, after that told to stop in its 3rd, then left alone."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert start(whole).stdout == "12\n"
    assert start(killed, "SIGKILL", 5).returncode == -9
    stopped = start(killed, "SIGTERM", 3)
    assert stopped.returncode == 1
    assert "stopped before step 1 of epoch 2; the next start continues there" in stopped.stderr
    last = start(killed)
    assert last.stdout == "5\n", last.stderr
    expected, ours = (torch.load(f / "result.pt", weights_only=True) for f in (whole, killed))
    assert ours["curve"] == expected["curve"]
    for name, array in expected["state"].items():
        assert torch.equal(ours["state"][name], array), name
    assert not (killed / "run.pt").exists()
