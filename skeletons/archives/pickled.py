"""Pickles of arrays and plain containers, loaded without running what else they ask for.

A pickle is a program: loading one calls whatever it names. Here that is nothing of Python's or
NumPy's: what NumPy writes of an array is taken by classes of this module, which hold its bytes.
"""

import codecs
import math
import pickle
import pickletools
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.archive import ArchiveError

_LARGEST = 2**64  # integer
_TYPES = "biufSU"  # kinds of NumPy's types whose arrays are nothing but their bytes


class _Type:
    """A type as `numpy.dtype` is pickled: a code, then a state of which the byte order counts."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in _TYPES:
            raise pickle.UnpicklingError(f"it has an array of type {code}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """A pickled array: its bytes in C's order, their type and the shape."""

    data = b""
    dtype = np.dtype("u1")
    shape: tuple[int, ...] = (0,)

    def __init__(self, *_: Any) -> None:
        """The arguments are the same for all arrays; what it holds comes as its state."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.shape, self.dtype = tuple(map(int, shape)), kind.dtype
        self.data = data.encode("latin1") if isinstance(data, str) else bytes(data)
        due = math.prod(self.shape) * self.dtype.itemsize
        if min(self.shape, default=0) < 0 or len(self.data) != due:
            raise pickle.UnpicklingError(f"{len(self.data)} bytes are no array of shape {shape}")
        if fortran:
            array = np.frombuffer(self.data, self.dtype).reshape(self.shape, order="F")
            self.data = array.tobytes()

    def values(self) -> NDArray[Any]:
        """It as an array."""
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


def _buffer(data: Any, kind: _Type, shape: tuple[int, ...], order: str) -> Array:
    """An array as protocol 5 pickles it."""
    array = Array()
    array.__setstate__((1, shape, kind, order == "F", data))
    return array


def _scalar(kind: _Type, data: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(raw, kind.dtype)[0].item()


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes as protocols before 3 pickle them."""
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Bytes of which there are none, as protocols before 3 pickle them."""
    return b""


_NDARRAY = object()  # named by what NumPy pickles, never called
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Type,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _buffer,
    ("_codecs", "encode"): _bytes,
    ("__builtin__", "bytes"): _no_bytes,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module.replace("numpy.core", "numpy._core"), name))
        if known is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and only arrays of NumPy and plain containers are "
                "loaded, because a pickle may run anything"
            )
        return known


def _check_sizes(data: Any) -> None:
    """Raise UnpicklingError for a pickle that takes memory out of proportion: one that puts what it
    remembers at a place far beyond the number of its steps, or has a number of hundreds of digits.
    """
    for step, (code, argument, _) in enumerate(pickletools.genops(data)):
        if type(argument) is int and abs(argument) > (step if "PUT" in code.name else _LARGEST):
            raise pickle.UnpicklingError(f"at step {step:,} {code.name} has a number out of range")


def load(path: Path) -> Any:
    """Load what a pickle holds: numbers, text, lists, tuples, dicts and the like, and `Array`s.

    Raises ArchiveError when it is damaged, or asks for anything else.
    """
    try:
        # A map of the file, of which no more is read than there is, whatever a pickle says.
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
            _check_sizes(data)
            data.seek(0)
            return _Unpickler(data, encoding="latin1").load()
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror}") from None
    except Exception as error:  # a damaged pickle is a program that does anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{path}: not a pickle that can be read ({reason})") from None
