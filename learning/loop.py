"""The training loop of pretraining and fine-tuning: exact on resume, one process or many."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from learning.checkpoint import Checkpoint
from learning.schedule import learning_rate
from model import distributed
from skeletons.memory import keep_freed_memory

Step = Callable[[Tensor, int], tuple[Tensor, dict[str, Tensor]]]
Curve = list[dict[str, float | None]]
PRECISIONS = ("fp32", "bf16")
LOOK = 100  # steps between looks at the loss: each waits for the device


class NotFinite(ValueError):
    """The loss or a weight is no longer a finite number."""


class Stopped(ValueError):
    """The run was asked to end before it was done; its state is saved."""


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Within it matrix products are computed in `precision`, fp32 or bf16; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def deterministic(device: torch.device) -> None:
    """Asks a GPU for algorithms that give the same bits every time; a CPU's do."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        # or every new tensor is filled first
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def train(
    step: Step,
    network: nn.Module,
    loader: Any,
    *,
    seed: int,
    epochs: int,
    lr: float,
    milestones: Sequence[int],
    schedule: str = "step",
    warmup: int = 0,
    momentum: float,
    weight_decay: float,
    measure: Callable[[int], dict[str, float | None]] = lambda epoch: {},
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Curve:
    """SGD; the figures of every epoch.

    A run that was killed continues from its checkpoint and ends with the same bits: the order of
    clips, their views and dropout are functions of (seed, epoch, step), all else is in the
    checkpoint. SIGTERM and SIGINT save first.

    Args:
        step: takes the indices (B,) of this process's part of a batch and the epoch, and returns
            the loss and figures to average over the epoch.
        network: what is trained (parameters that require a gradient) and what is saved.
        loader: batches of indices, with `sampler.set_epoch` and a state.
        lr, milestones, schedule, warmup: as in `learning_rate`.
        measure: what to add to the figures of an epoch when it is over; leaves `network` alone.
        progress: wraps the numbers of the steps that are left.

    Raises:
        NotFinite: the loss or a weight is not finite; the checkpoint keeps the last good state.
        Stopped: a signal asked for it.
    """
    keep_freed_memory()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(
        trained, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
    )
    device = trained[0].device
    curve: Curve = []
    totals: dict[str, Tensor] = {}
    first, seen, spent = 0, 0, 0.0
    saved = checkpoint.load() if checkpoint else None
    if saved:
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        curve, first, seen, spent = (saved[k] for k in ("curve", "epoch", "seen", "spent"))
        totals = {name: total.to(device) for name, total in saved["totals"].items()}
    failed = torch.tensor(-1, device=device)
    done = 0 if saved is None else saved["step"]
    ticks = iter(progress(range(first * len(loader) + done, epochs * len(loader))))

    def rate(step: int) -> float:
        return learning_rate(
            lr,
            step,
            epochs=epochs,
            steps=len(loader),
            milestones=milestones,
            schedule=schedule,
            warmup=warmup,
        )

    def check(what: str = "the loss is") -> None:
        if failed >= 0:
            kept = ""
            if checkpoint and checkpoint.path.exists():
                kept = f"; {checkpoint.path} keeps the last good state"
            raise NotFinite(
                f"{what} not finite in step {int(failed)} (epoch {int(failed) // len(loader)}) "
                f"at learning rate {rate(int(failed)):g}{kept}"
            )

    def save(epoch: int, step: int) -> None:
        assert checkpoint is not None
        check()
        if not all(bool(p.isfinite().all()) for p in trained):
            failed.fill_(epoch * len(loader) + step - 1)
            check("the weights are")
        checkpoint.save(
            {
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "loader": loader.state_dict() if step else None,
                "curve": curve,
                "totals": totals,
                "epoch": epoch,
                "step": step,
                "seen": seen,
                "spent": spent + time.perf_counter() - start,
            }
        )

    with _signals(checkpoint) as asked:
        for epoch in range(first, epochs):
            loader.sampler.set_epoch(epoch)
            if saved and saved["loader"]:
                loader.load_state_dict(saved["loader"])
            saved = None
            start = time.perf_counter()
            for number, clips in enumerate(loader, start=done):
                now = epoch * len(loader) + number
                optimiser.param_groups[0]["lr"] = rate(now)
                torch.manual_seed(_mix(seed, distributed.rank(), epoch, number))
                loss, figures = step(clips, epoch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                loss = loss.detach()
                failed = torch.where((failed < 0) & ~loss.isfinite(), now, failed)
                for name, figure in {"loss": loss, **figures}.items():
                    totals[name] = totals.get(name, 0) + figure * len(clips)
                seen += len(clips)
                next(ticks)
                if number % LOOK == LOOK - 1:
                    check()
                if checkpoint and (asked or checkpoint.due) and number + 1 < len(loader):
                    save(epoch, number + 1)
                    if asked:
                        raise Stopped(f"stopped in epoch {epoch}; the next start continues there")
            check()
            means = distributed.average(torch.stack(list(totals.values())) / seen).tolist()
            spent += time.perf_counter() - start
            speed = seen * distributed.ranks() / spent
            figures_of_epoch = dict(zip(totals, means, strict=True))
            curve.append(
                {
                    "epoch": epoch,
                    **figures_of_epoch,
                    "lr": rate(now),
                    "clips_per_second": speed,
                    **measure(epoch),
                }
            )
            totals, seen, spent, done = {}, 0, 0.0, 0
            start = time.perf_counter()
            if checkpoint and (asked or checkpoint.due):
                save(epoch + 1, 0)
                if asked:
                    raise Stopped(f"stopped after epoch {epoch}; the next start continues there")
    next(ticks, None)  # ends the progress bar
    return curve


def _mix(*numbers: int) -> int:
    """One seed from several numbers, different for any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextlib.contextmanager
def _signals(checkpoint: Checkpoint | None) -> Iterator[list[int]]:
    """The signals that asked this process to end, instead of ending it.

    Of several processes the writing one ends all; the others wait for it.
    """
    asked: list[int] = []
    if checkpoint is None:
        yield asked
        return

    def note(number: int, frame: object) -> None:
        if checkpoint.writes:
            asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
