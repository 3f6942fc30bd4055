"""What matrix products are computed in."""

import contextlib
from typing import Any

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


def computing(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """From this call on, products are computed in `precision`; the result is a context for the
    forward pass, whose bf16 needs one. Weights, and what is no product, stay fp32.

    fp32: whole single precision, on every device. tf32: on a GPU the factors of matrix products and
    convolutions are rounded to 10 bits of mantissa and the sums are fp32; on a CPU it is fp32.
    bf16: factors and results are rounded to 7 bits, sums are fp32 (autocast).
    """
    tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
