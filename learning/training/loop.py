"""The training loop of pretraining and fine-tuning: exact on resume, one process or many."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from errors import UserError
from learning.training.augment import Augmentations
from learning.training.checkpoint import Checkpoint
from learning.training.optimiser import Optimiser
from learning.training.randomness import mixed
from learning.training.settings import SGD
from machine.devices import distributed
from machine.devices.cuda_graphs import Replayed
from machine.host.memory import keep_freed_memory

Loss = tuple[Tensor, dict[str, Tensor]]  # of a batch, and other figures of it
Figures = dict[str, float | None]  # of an epoch
Curve = list[Figures]
CHECK = 100  # steps between checks of the loss: each waits for the device
FLAT = 5  # epochs of the same loss after which a line says that nothing is learnt


class NotFinite(UserError):
    """The loss or a weight is no longer a finite number."""


class Stopped(UserError):
    """The run was asked to end before it was done; its state is saved."""


def unchanged(values: Sequence[float], *, count: int, tolerance: float = 1e-5) -> bool:
    """True if the last `count` values are the same but for a relative `tolerance`, and not zero.

    A loss that is so over epochs says that nothing is learnt; a collapsed network's, for example,
    stays at the logarithm of 1 + the queue's length for every term.
    """
    last = values[-count:]
    return len(last) == count and max(last) - min(last) < tolerance * abs(last[-1])


@dataclass(frozen=True)
class Recipe:
    """Settings of training: SGD in batches of `batch` clips, on augmented views, with products in
    `precision` (see `computing`); `seed` decides all that is drawn.
    """

    sgd: SGD
    batch: int
    seed: int
    augmentations: Augmentations
    precision: str = "fp32"


@dataclass(frozen=True)
class Step:
    """A training step up to its loss.

    Args:
        loss: takes `inputs`, and returns the mean loss over these clips and other such means, for
            the epoch's figures.
        inputs: of `loss`, from the indices (B,) of this process's part of a batch and the epoch.
        replay: whether steps are recorded and replayed on the GPU, as `Replayed` says.
        start: is called before the first step, but not when the run continues.
    """

    loss: Callable[..., Loss]
    inputs: Callable[[Tensor, int], tuple[Any, ...]] = lambda indices, epoch: (indices, epoch)
    replay: bool = False
    start: Callable[[], None] = lambda: None


def train(
    step: Step,
    network: nn.Module,
    loader: Any,
    *,
    sgd: SGD,
    seed: int,
    evaluate: Callable[[int], Figures] = lambda epoch: {},
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Curve:
    """Trains `network` by SGD; returns the loss and other figures of every epoch.

    A run that was killed continues from its checkpoint and ends with the same bits: the order of
    clips, their views and dropout are functions of (seed, epoch, step), all else is in the
    checkpoint. SIGTERM and SIGINT save first, and so does an abandoned checkpoint.

    Args:
        network: what is trained (parameters that require a gradient) and what is saved.
        loader: batches of indices, with `sampler.set_epoch` and a state.
        evaluate: what to add to the figures of an epoch when it is over; leaves `network` alone.
        progress: wraps the numbers of the steps that are left.

    Raises:
        NotFinite: the loss or a weight is not finite; the checkpoint keeps the last good state.
        Stopped: a signal asked for it, or nobody waits for the run any more.
    """
    keep_freed_memory()
    run = _Run(network, loader, sgd, checkpoint, step.replay)
    if not run.resume():
        step.start()

    def update(weight: float, *arguments: Any) -> dict[str, Tensor]:
        loss, figures = step.loss(*arguments)
        run.optimiser.update(loss * weight, run.lr)
        return {"loss": loss.detach(), **figures}

    updated = Replayed(update) if step.replay else update
    ticks = iter(progress(range(run.now, sgd.epochs * len(loader))))
    with _stop_requests(checkpoint) as asked_to_stop:
        for batch in run.batches():
            run.set_rate()
            torch.manual_seed(mixed(seed, distributed.rank(), run.epoch, run.step))
            with distributed.dealt(batch) as (part, weight):
                figures = updated(weight, *step.inputs(part, run.epoch))
            run.count(figures, len(batch), weight)
            next(ticks)
            if run.step == len(loader):
                run.end_epoch(evaluate)
            elif run.step % CHECK == 0:
                run.check()
            stop = asked_to_stop()
            if checkpoint and (stop or checkpoint.due):
                run.save(checkpoint)
            if stop:
                raise Stopped(
                    f"stopped before step {run.step} of epoch {run.epoch}; the next start "
                    "continues there"
                )
    next(ticks, None)  # ends the progress bar
    run.check_weights()
    return run.curve


@dataclass
class _Run:
    """A run of `train`: the next step, the figures so far, and how they are saved and restored."""

    network: nn.Module
    loader: Any
    sgd: SGD
    checkpoint: Checkpoint | None
    replay: bool = False
    epoch: int = 0
    step: int = 0  # of the epoch
    seen: int = 0  # clips in the epoch, of all processes
    seconds: float = 0.0  # that the epoch took before `since`
    totals: dict[str, Tensor] = field(default_factory=dict)  # of the figures over these clips
    curve: Curve = field(default_factory=list)

    SAVED = ("epoch", "step", "seen", "totals", "curve")

    def __post_init__(self) -> None:
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser = Optimiser(self.trained, self.sgd)
        self.device = self.trained[0].device
        # A recorded step reads it on the device.
        self.lr = torch.zeros((), device=self.device) if self.replay else 0.0
        self.failed = torch.tensor(-1, device=self.device)  # the first step of a bad loss
        self.since = time.perf_counter()

    @property
    def now(self) -> int:
        """The next step, counted over all epochs."""
        return self.epoch * len(self.loader) + self.step

    def set_rate(self) -> None:
        """Notes the learning rate of the next step."""
        rate = self.rate(self.now)
        self.lr = self.lr.fill_(rate) if isinstance(self.lr, Tensor) else rate

    def rate(self, step: int) -> float:
        return self.sgd.rate(step, len(self.loader))

    def batches(self) -> Iterator[Tensor]:
        """The batches (B,) that are left, of all epochs. The caller moves on `epoch` and `step`."""
        while self.epoch < self.sgd.epochs:
            self.loader.sampler.set_epoch(self.epoch)
            self.since = time.perf_counter()
            yield from self.loader

    def count(self, figures: dict[str, Tensor], clips: int, weight: float) -> None:
        """Notes a step's loss and other figures, without waiting for them."""
        self.failed = torch.where(
            (self.failed < 0) & ~figures["loss"].isfinite(), self.now, self.failed
        )
        for name, figure in figures.items():
            self.totals[name] = self.totals.get(name, 0) + figure * (weight * clips)
        self.seen += clips
        self.step += 1

    def end_epoch(self, evaluate: Callable[[int], Figures]) -> None:
        """Adds the epoch to the curve and begins the next one."""
        self.check()
        means = distributed.average(torch.stack(list(self.totals.values())) / self.seen).tolist()
        self.seconds += time.perf_counter() - self.since
        self.curve.append(
            {
                "epoch": self.epoch,
                **dict(zip(self.totals, means, strict=True)),
                "lr": self.rate(self.now - 1),
                "clips_per_second": self.seen / self.seconds,
                **evaluate(self.epoch),
            }
        )
        self.say_if_flat()
        self.epoch += 1
        self.step, self.seen, self.seconds, self.totals = 0, 0, 0.0, {}
        self.since = time.perf_counter()

    def say_if_flat(self) -> None:
        """Says, when it is so for the first time, that the loss stays the same."""
        losses = [float(row["loss"] or 0) for row in self.curve]
        new = unchanged(losses, count=FLAT) and not unchanged(losses[:-1], count=FLAT)
        if new and distributed.rank() == 0:
            print(
                f"epoch {self.epoch}: the loss is {losses[-1]:.6g}, as in the {FLAT - 1} epochs "
                "before: nothing is learnt",
                file=sys.stderr,
            )

    def check(self, what: str = "the loss is") -> None:
        """Raises NotFinite if a loss was not finite; waits for the device."""
        failed = int(self.failed)
        if failed < 0:
            return
        kept = ""
        if self.checkpoint and self.checkpoint.path.exists():
            kept = f"; {self.checkpoint.path} keeps the last good state"
        raise NotFinite(
            f"{what} not finite in step {failed} (epoch {failed // len(self.loader)}) "
            f"at learning rate {self.rate(failed):g}{kept}"
        )

    def check_weights(self) -> None:
        """Raises NotFinite if a weight or a statistic is not finite; waits for the device."""
        if not all(bool(array.isfinite().all()) for array in self.network.state_dict().values()):
            self.failed.fill_(self.now - 1)
            self.check("the weights are")

    def save(self, checkpoint: Checkpoint) -> None:
        """Saves all that the next start needs; raises NotFinite instead of saving a bad state."""
        self.check()
        self.check_weights()
        checkpoint.save(
            {
                **{name: getattr(self, name) for name in self.SAVED},
                "seconds": self.seconds + time.perf_counter() - self.since,
                "network": self.network.state_dict(),
                "buffers": self.optimiser.buffers,
                "loader": self.loader.state_dict() if self.step else None,
            }
        )

    def resume(self) -> bool:
        """Restores what was saved; False if there is nothing."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return False
        for name in (*self.SAVED, "seconds"):
            setattr(self, name, saved[name])
        self.totals = {name: total.to(self.device) for name, total in self.totals.items()}
        self.network.load_state_dict(saved["network"])
        self.optimiser.buffers = {
            number: buffer if buffer is None else buffer.to(self.device)
            for number, buffer in saved["buffers"].items()
        }
        if saved["loader"]:
            self.loader.load_state_dict(saved["loader"])
        return True


@contextlib.contextmanager
def _stop_requests(checkpoint: Checkpoint | None) -> Iterator[Callable[[], bool]]:
    """A function that is true if this process was asked to end: by a signal, which then does not
    end it, or because its checkpoint is abandoned.

    Of several processes the writing one ends all; the others wait for it.
    """
    if checkpoint is None:
        yield lambda: False
        return
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: checkpoint.writes and (bool(asked) or checkpoint.abandoned())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
