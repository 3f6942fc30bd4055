"""Learning rates."""

import math
from collections.abc import Sequence


def learning_rate(
    lr: float,
    step: int,
    *,
    epochs: int,
    steps: int,
    milestones: Sequence[int],
    schedule: str,
    warmup: int,
) -> float:
    """The rate of a training step, counted from 0 over all `epochs` of `steps` each.

    step: `lr`, times 0.1 from each epoch of `milestones` on; cosine: half a cosine from `lr` to 0
    (Loshchilov & Hutter, ICLR 2017). Over the first `warmup` steps it rises linearly to that.
    """
    if schedule == "cosine":
        rate = lr * (1 + math.cos(math.pi * step / (epochs * steps))) / 2
    else:
        rate = step_lr(lr, step // steps, milestones)
    return rate * min((step + 1) / warmup, 1) if warmup else rate


def step_lr(lr: float, epoch: int, milestones: Sequence[int]) -> float:
    """The learning rate of `epoch` (counted from 0): `lr`, times 0.1 from each milestone on."""
    return lr * 0.1 ** sum(epoch >= milestone for milestone in milestones)
