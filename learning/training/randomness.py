"""Chance in training, always a function of the seed and the place in the run: the random numbers of
views, the order of clips, the seed of a step.
"""

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from errors import UserError
from machine.devices import distributed

# SplitMix64's constants as the int64 of the same bits: torch's int64 arithmetic wraps around.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def uniforms(
    seed: int, epoch: int | Tensor, clips: Tensor, view: int | Tensor, count: int
) -> Tensor:
    """`count` numbers in [0, 1) for each of `clips` ((B,) int64), as (B, count) float32.

    SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): a hash of (seed, epoch, view, clip) starts each
    clip's own sequence. Integer arithmetic alone, so every device draws the same bits.
    """
    state = torch.zeros_like(clips)
    for part in (seed, epoch, view, clips):
        state = _scramble(state + _GOLDEN + part)
    step = torch.arange(1, count + 1, device=clips.device)
    bits = _scramble(state[:, None] + _GOLDEN * step)
    return _shift(bits, 40) * 2.0**-24  # a float32 holds 24 bits exactly


def batches(clips: np.ndarray, *, batch: int, seed: int, drop_last: bool) -> StatefulDataLoader:
    """Batches (B,) of the indices `clips`, in an order that is a function of (seed, epoch).

    Call `loader.sampler.set_epoch(epoch)` before each epoch. An epoch has every clip once, but for
    an incomplete last batch that `drop_last` leaves out. All processes get the same batches, of
    which `distributed.dealt` gives each a part.

    Raises:
        UserError: there are fewer clips than a batch and `drop_last` would leave none, or the
            batch cannot be divided among the processes.
    """
    if batch % distributed.ranks():
        raise UserError(
            f"a batch of {batch} clips cannot be divided among {distributed.ranks()} processes"
        )
    if drop_last and len(clips) < batch:
        raise UserError(f"{len(clips)} training clips do not fill one batch of {batch}")
    data = _Indices(clips)
    sampler: DistributedSampler[Tensor] = DistributedSampler(
        data, num_replicas=1, rank=0, seed=seed
    )
    with warnings.catch_warnings():  # torchdata calls what newer PyTorch deprecates
        warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
        return StatefulDataLoader(
            data,
            batch_size=batch,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=lambda clips: clips,
        )


def mixed(*numbers: int) -> int:
    """One seed from several numbers, different for any others."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class _Indices(Dataset[Tensor]):
    """Clip indices that are fetched a batch at a time."""

    def __init__(self, clips: np.ndarray) -> None:
        self.clips = torch.from_numpy(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, rows: list[int]) -> Tensor:
        return self.clips[rows]


def _scramble(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: every bit of the input changes half of the output's."""
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
