"""Weights files, or what is wrong with one in one line."""

import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NOT_SAVED = "damaged, or not a file that torch.save wrote"
SHOWN = 40  # characters of a text file that an error shows


def packed(saved: Any) -> memoryview:
    """The bytes of a file that `torch.save` would write.

    Of a file that it writes itself, it says RuntimeError where the disk is full.
    """
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getbuffer()


def load(path: Path | str) -> Any:
    """The object that `torch.save` wrote, on the CPU; no code of the file is run. Damaged bytes may
    raise anything.
    """
    if zipfile.is_zipfile(path):  # as since PyTorch 1.6; torch.load does not look at checksums
        with zipfile.ZipFile(path) as archive:
            if archive.testzip():
                raise zipfile.BadZipFile
    return torch.load(path, map_location="cpu", weights_only=True)


def read(path: Path | str) -> dict[str, Any]:
    """The dictionary that `torch.save` wrote, on the CPU. No code of the file is run.

    Raises:
        UserError: there is no such file, or it is something else, or holds other Python objects.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(256)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if what := _not_weights(head):
        raise UserError(f"{path}: {what}")
    try:
        with warnings.catch_warnings(action="ignore"):  # about files that are refused anyway
            saved = load(path)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: holds Python objects ({found[1]}), which are not loaded since they can "
                "run code: save the weights again without them"
            ) from None
        raise UserError(f"{path}: {NOT_SAVED}") from None
    except Exception:  # damaged bytes may raise anything
        raise UserError(f"{path}: {NOT_SAVED}") from None
    if not isinstance(saved, dict):
        raise UserError(f"{path}: holds a {type(saved).__name__}, not a dictionary with weights")
    return saved


def _not_weights(head: bytes) -> str:
    """The kind of a file that begins with `head` and cannot be a weights file, else ''."""
    if not head:
        return "an empty file: get it again"
    if head.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the weights themselves: run `git lfs pull`"
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.end < len(head):  # else a character is cut at the end of `head`
            return ""
        text = head[: error.start].decode()
    line = text.strip().partition("\n")[0].strip()
    if line.isprintable():
        return f"a text file, not weights; it begins with {line[:SHOWN]!r}"
    return ""


def load_state(network: nn.Module, state: object, path: Path | str) -> None:
    """Load the `state` that the file at `path` holds into `network`, which may be on PyTorch's meta
    device before, so that it takes no memory if it does not fit.

    Raises:
        UserError: weights are missing, unknown, of another shape or kind, or not finite, or a
            variance is negative.
    """
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: its weights are a {type(state).__name__}, not a dictionary")
    expected = network.state_dict()
    faults = [
        f"{name} {fault}"
        for name in [*expected, *(name for name in state if name not in expected)]
        if (fault := _misfit(name, expected, state))
    ]
    if faults:
        raise UserError(
            f"{path}: weights that do not fit the architecture that it states: {len(faults)}, the "
            f"first: {faults[0]}; was it saved by another version of this project?"
        )
    network.to_empty(device="cpu").load_state_dict(state)
    if name := not_finite(network):
        raise UserError(f"{path}: {name} has values that are not finite: its training diverged")
    for name, array in network.state_dict().items():
        if name.endswith(".running_var") and (array < 0).any():
            raise UserError(f"{path}: {name} has negative variances: the file is damaged")


def _misfit(name: str, expected: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    if name not in state:
        return "is missing"
    if name not in expected:
        return "is unknown"
    array, due = state[name], expected[name]
    if not isinstance(array, Tensor):
        return f"is a {type(array).__name__}"
    if array.is_nested or array.layout != torch.strided:
        return "is a nested or sparse tensor"
    if array.shape != due.shape:
        return f"is {tuple(array.shape)}, not {tuple(due.shape)}"
    if array.dtype != due.dtype and not (array.is_floating_point() and due.is_floating_point()):
        return f"is {array.dtype}, not {due.dtype}"
    if array.untyped_storage().nbytes() < array.nbytes:  # one number for many
        return "has fewer numbers than its shape"
    return ""


def not_finite(network: nn.Module) -> str:
    """The name of the first weight or statistic that has a value that is not finite, or ''."""
    for name, array in network.state_dict().items():
        if not array.isfinite().all():
            return name
    return ""
