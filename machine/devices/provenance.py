"""What of a machine decides the bits of trained weights, besides the parameters and the code."""

from typing import Any

import torch

from machine.devices import distributed

MADE_ON = ("torch", "device", "processes")


def made_on(device: torch.device) -> dict[str, Any]:
    """The version of torch, the device and the number of processes, under the names `MADE_ON`.

    No time and no commit, so that the same weights are the same bytes.
    """
    made = (str(torch.__version__), device_name(device), distributed.ranks())
    return dict(zip(MADE_ON, made, strict=True))


def device_name(device: torch.device) -> str:
    """A GPU's name; of a CPU the instructions that torch's kernels use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.backends.cpu.get_cpu_capability()}"
