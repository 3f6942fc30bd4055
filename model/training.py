"""The training loop that pretraining and fine-tuning share."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from model.probes import step_lr

Step = Callable[[Tensor, int], tuple[Tensor, dict[str, Tensor]]]


def train(
    step: Step,
    parameters: Iterable[torch.nn.Parameter],
    loader: Any,
    *,
    epochs: int,
    lr: float,
    milestones: Sequence[int],
    momentum: float,
    weight_decay: float,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Iterator[dict[str, float]]:
    """SGD with a step schedule; yields the figures of every epoch as it ends.

    Args:
        step: takes the indices (B,) of a batch of clips and the epoch, and returns the loss and
            figures to average over the epoch.
        loader: batches of indices, with `sampler.set_epoch`.

    Raises:
        ValueError: the loss is no longer finite.
    """
    optimiser = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    for epoch in progress(range(epochs)):
        rate = step_lr(lr, epoch, milestones)
        optimiser.param_groups[0]["lr"] = rate
        loader.sampler.set_epoch(epoch)
        totals: dict[str, Tensor] = {}
        seen, start = 0, time.perf_counter()
        for clips in loader:
            loss, figures = step(clips, epoch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for name, figure in {"loss": loss.detach(), **figures}.items():
                totals[name] = totals.get(name, 0) + figure * len(clips)
            seen += len(clips)
        means = {name: float(total) / seen for name, total in totals.items()}
        if not math.isfinite(means["loss"]):
            raise ValueError(f"the loss is {means['loss']} in epoch {epoch} at learning rate {rate}")
        speed = seen / (time.perf_counter() - start)
        yield {"epoch": epoch, **means, "lr": rate, "clips_per_second": speed}
