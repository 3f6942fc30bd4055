"""Compute an absent body once for the batch: most clips have no second one, and absent bodies are
all zeros, so equal."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

COUNTS = 4  # numbers of second bodies that are computed: quarters of a batch


class Plan(NamedTuple):
    """The bodies of a batch, in numbers that few batches differ in: a compiler wants fixed shapes.

    Args:
        order: (2 * B,) the bodies (clip * 2 + place), those that are computed first; the first is
            absent, and all that are not computed are equal to it.
        inverse: (2 * B,) the place of each body in `order`.
        computed: how many are computed.
    """

    order: Tensor
    inverse: Tensor
    computed: int

    def select(self, x: Tensor) -> Tensor:
        """The rows (R, ...) that are computed of all bodies' (2 * B, ...)."""
        return _Permute.apply(x, self.order, self.inverse)[: self.computed]

    def spread(self, x: Tensor) -> Tensor:
        """The rows (2 * B, ...) of all bodies from those that were computed (R, ...)."""
        rest = x[:1].expand(len(self.order) - self.computed, *x.shape[1:])
        return _Permute.apply(torch.cat([x, rest]), self.inverse, self.order)

    @property
    def repeats(self) -> Tensor:
        """The number of bodies that equal the first and are not computed, (1,); see `BatchNorm`."""
        return torch.full((1,), len(self.order) - self.computed, device=self.order.device)


class _Permute(torch.autograd.Function):
    """Rows in another order. PyTorch's own backward pass adds up rows that might be the same one,
    which is slow on a GPU, or differs from run to run."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None


def plan(paired: Tensor, device: torch.device) -> Plan | None:
    """Plan a batch on `device`; `paired` (B,), in the host's memory, says which clips have a second
    body. None if all are to be computed.

    Nothing waits for the device.
    """
    batch = len(paired)
    step = max(batch // COUNTS, 1)
    seconds = (int(paired.sum()) // step + 1) * step  # one of them is absent
    if seconds >= batch:
        return None
    firsts = 2 * torch.arange(batch)
    others = 2 * paired.logical_not().byte().argsort(stable=True) + 1
    last = others[seconds - 1 : seconds]
    order = torch.cat([last, firsts, others[: seconds - 1], others[seconds:]])
    order, inverse = torch.stack([order, order.argsort()]).to(device, non_blocking=True)
    return Plan(order, inverse, batch + seconds)


class Found(NamedTuple):
    """The bodies of a batch that are present, and one absent body for each place.

    Args:
        computed: (R,) the bodies (clip * M + place); those of the first M rows stand for the
            absent ones.
        rows: (B * M,) the row among them of each body of the batch.
        repeats: (M,) how many more bodies equal each of the first M rows; see `BatchNorm`.
    """

    computed: Tensor
    rows: Tensor
    repeats: Tensor

    def select(self, x: Tensor) -> Tensor:
        """The rows (R, ...) that are computed of all bodies' (B * M, ...)."""
        return x[self.computed]

    def spread(self, x: Tensor) -> Tensor:
        """The rows (B * M, ...) of all bodies from those that were computed (R, ...)."""
        return x.index_select(0, self.rows)


def find(x: Tensor) -> Found | None:
    """Look which bodies of the clips (B, 3, T, V, M) are present; None if all are to be computed.

    Waits for the device.
    """
    bodies = x.shape[4]
    if bodies == 1:
        return None
    absent = (x == 0).flatten(1, 3).all(dim=1)
    present = (~absent).flatten().nonzero()[:, 0]
    if absent.numel() - len(present) <= bodies:
        return None
    # The input's norm treats first and second bodies differently: one of each is computed.
    places = torch.arange(bodies, device=x.device)
    first = absent.byte().argmax(dim=0) * bodies + places
    rows = places.repeat(len(x))
    rows[present] = torch.arange(bodies, bodies + len(present), device=x.device)
    return Found(torch.cat([first, present]), rows, absent.sum(dim=0) - 1.0)
