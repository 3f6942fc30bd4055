"""Stochastic gradient descent: its settings, and its learning rate at each step."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent over a number of epochs.

    Args:
        epochs: how many.
        lr: the learning rate before `schedule` and `warmup` change it.
        momentum, weight_decay: as in `torch.optim.SGD`.
        milestones: epochs from which on the rate is a tenth of what it was before (`step`).
        schedule: `step`; or `cosine`, half a cosine from `lr` to 0 (Loshchilov & Hutter, ICLR
            2017).
        warmup: steps over which the rate rises linearly to that of the schedule.
    """

    epochs: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0
    milestones: Sequence[int] = ()
    schedule: str = "step"
    warmup: int = 0

    def optimiser(self, parameters: Iterable[Tensor]) -> torch.optim.SGD:
        """The optimiser of these parameters; `rate` says what its learning rate is at each step."""
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a training step, counted from 0 over all epochs of `steps` each."""
        if self.schedule == "cosine":
            rate = self.lr * (1 + math.cos(math.pi * step / (self.epochs * steps))) / 2
        else:
            rate = step_lr(self.lr, step // steps, self.milestones)
        return rate * min((step + 1) / self.warmup, 1) if self.warmup else rate


def step_lr(lr: float, epoch: int, milestones: Sequence[int]) -> float:
    """The learning rate of `epoch` (counted from 0): `lr`, times 0.1 from each milestone on."""
    return lr * 0.1 ** sum(epoch >= milestone for milestone in milestones)
