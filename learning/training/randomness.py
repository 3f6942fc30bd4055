"""Random numbers of views: a function of (seed, epoch, clip, view), the same on every device."""

import torch
from torch import Tensor

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


def _scramble(z: Tensor) -> Tensor:
    """SplitMix64's finaliser: every bit of the input changes half of the output's."""
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own repeats the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
