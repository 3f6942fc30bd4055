"""Settings of training, without PyTorch, so that parameters are checked before it is imported: each
list of options once, and stochastic gradient descent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Stream = Literal["joint", "bone", "motion"]
SpatialMasking = Literal["top", "neighbourhood"]
TemporalMasking = Literal["uniform", "energy", "threshold"]
Term = Literal["ti", "si", "it", "is"]  # query to key: t temporal, s spatial, i instance
QueueStart = Literal["random", "keys"]
Schedule = Literal["step", "cosine"]
Precision = Literal["fp32", "tf32", "bf16"]

STREAMS: tuple[Stream, ...] = get_args(Stream)
SPATIAL_MASKS: tuple[SpatialMasking, ...] = get_args(SpatialMasking)
TEMPORAL_MASKS: tuple[TemporalMasking, ...] = get_args(TemporalMasking)
TERMS: tuple[Term, ...] = get_args(Term)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


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
    schedule: Schedule = "step"
    warmup: int = 0

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a training step, counted from 0 over all epochs of `steps` each."""
        if self.schedule == "cosine":
            rate = self.lr * (1 + math.cos(math.pi * step / (self.epochs * steps))) / 2
        else:
            rate = self.lr * 0.1 ** sum(step // steps >= epoch for epoch in self.milestones)
        return rate * min((step + 1) / self.warmup, 1) if self.warmup else rate
