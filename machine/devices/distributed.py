"""This process's device, and the other processes of a training step. Alone, nothing happens."""

import contextlib
import os
import warnings
from collections.abc import Iterator

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn

from errors import UserError


def join(device: str = "auto") -> torch.device:
    """Join the processes that torchrun or srun started, if any; return this process's device.

    `device` is cpu, cuda, or auto: cuda where there is one. srun needs MASTER_ADDR only if it was
    not called on the first node.

    Raises:
        UserError: srun does not say where it was called, or `device` is cuda and there is no GPU.
    """
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "RANK" not in os.environ:
        if not {"MASTER_ADDR", "SLURM_LAUNCH_NODE_IPADDR"} & os.environ.keys():
            raise UserError("srun does not say where it was called: set MASTER_ADDR to that node")
        os.environ.setdefault("MASTER_ADDR", os.environ.get("SLURM_LAUNCH_NODE_IPADDR", ""))
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ["SLURM_JOB_ID"]) % 10000))
        for name, slurm in (("RANK", "PROCID"), ("LOCAL_RANK", "LOCALID")):
            os.environ[name] = os.environ[f"SLURM_{slurm}"]
        os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch finds no GPU: set device to auto or cpu")
    place = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if kind == "cuda" else "cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return place


def rank() -> int:
    """The number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


_alone = False  # whether this process computes what the others compute as well


@contextlib.contextmanager
def dealt(batch: Tensor) -> Iterator[tuple[Tensor, float]]:
    """This process's part of a batch (B,) of clips, dealt out in turn, and its weight: the mean
    over the processes of weight * (mean over the part) is the mean over the batch.

    A batch of fewer clips than processes, as the last of an epoch may be, is computed whole by each
    of them: within this context it is as if there were no others.
    """
    global _alone
    if len(batch) >= ranks():
        part = batch[rank() :: ranks()]
        yield part, len(part) * ranks() / len(batch)
        return
    _alone = True
    try:
        yield batch, 1.0
    finally:
        _alone = False


def gather(x: Tensor) -> Tensor:
    """The rows (B, ...) of every process as (ranks * B, ...), equal in all.

    Row b of process r comes before row b of process r + 1: the order in which one process would
    have seen the clips that the sampler deals out in turn.
    """
    if ranks() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(ranks())]
    dist.all_gather(parts, x.contiguous())
    return rearrange(parts, "rank b ... -> (b rank) ...")


def total(x: Tensor) -> Tensor:
    """The sum of `x` over the processes, which replaces it."""
    if ranks() > 1:
        dist.all_reduce(x)
    return x


def average(x: Tensor) -> Tensor:
    """The mean of `x` over the processes, whose sum replaces it."""
    return total(x) / ranks()


def parallel(network: nn.Module, *, unused: bool = False) -> nn.Module:
    """The network as every process trains it, gradients averaged. `unused`: some parameters may
    have no gradient.
    """
    if ranks() == 1:
        return network
    # Queues are equal in all processes already, and running statistics are not worth the traffic.
    with warnings.catch_warnings():  # the successor of `broadcast_buffers` copies them at the start
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        return nn.parallel.DistributedDataParallel(
            network, broadcast_buffers=False, find_unused_parameters=unused
        )
