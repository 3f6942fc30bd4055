"""Settings of the C library's memory allocation."""

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory(most: int = 2**31 - 1) -> None:
    """Ask the C library to keep up to `most` bytes of freed memory for the next arrays, where it is
    glibc.

    By default large arrays go back to the system, which hands out the next ones page by page, each
    filled with zeros.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):  # no glibc: nothing to ask
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, most)
