"""Stochastic gradient descent: its settings, its learning rate at each step, and the step."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd


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


class Optimiser:
    """Steps of stochastic gradient descent, as `torch.optim.SGD` does them, in one fused call.

    PyTorch's class imports its compiler, if only to do without it, which takes longer than a short
    training; the function that it calls does not.
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, momentum: float, weight_decay: float = 0
    ) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.buffers: dict[int, Tensor | None] = {}  # of the parameters that have moved

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float | Tensor) -> None:
        """Moves each parameter that has a gradient. `lr` may be on the device."""
        moved = {i: p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        buffers = [self.buffers.get(i) for i in moved]
        sgd(
            [self.parameters[i] for i in moved],
            list(moved.values()),
            buffers,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=lr,  # type: ignore[arg-type]  # of the class, too, a tensor is taken
            dampening=0,
            nesterov=False,
            maximize=False,
        )
        self.buffers.update(zip(moved, buffers, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes to go on from here."""
        return {"buffers": self.buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict` of the same parameters, on whatever device it lies."""
        self.buffers = {
            i: buffer if buffer is None else buffer.to(self.parameters[i].device)
            for i, buffer in state["buffers"].items()
        }
