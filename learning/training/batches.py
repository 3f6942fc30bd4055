"""Batches of clips for training: which clips come next, not their frames.

The frames of a dataset stay where they are, in one packed array on the training device; a step
gathers, crops and augments a whole batch there from the indices that the loader hands out.
"""

import warnings

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from errors import UserError
from machine.devices import distributed


class _Indices(Dataset[Tensor]):
    """Clip indices that are fetched a batch at a time."""

    def __init__(self, clips: np.ndarray) -> None:
        self.clips = torch.from_numpy(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, rows: list[int]) -> Tensor:
        return self.clips[rows]


def batches(
    clips: np.ndarray, *, batch: int, seed: int, drop_last: bool, shuffle: bool = True
) -> StatefulDataLoader:
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
        data, num_replicas=1, rank=0, shuffle=shuffle, seed=seed
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
