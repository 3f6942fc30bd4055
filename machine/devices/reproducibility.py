"""The bits of a result, as far as a machine decides them: the precision of products, algorithms
that always give the same, and a note of the rest.
"""

import contextlib
import os
from typing import Any

import torch

from machine.devices import distributed

MADE_ON = ("torch", "device", "processes")


def computing(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Set the `precision` of products from this call on; return a context for the forward pass,
    which bf16 needs. Weights, and what is no product, stay fp32.

    fp32: whole single precision, on every device. tf32: on a GPU the factors of matrix products and
    convolutions are rounded to 10 bits of mantissa and the sums are fp32; on a CPU it is fp32.
    bf16: factors and results are rounded to 7 bits, sums are fp32 (autocast).
    """
    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def deterministic(device: torch.device) -> None:
    """Make a GPU use algorithms that give the same bits every time, as a CPU's do.

    Where an operation has none it raises RuntimeError. With PyTorch's mere warning, attention would
    stay as it is, though it has one.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # or every new tensor is filled first
        setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


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
