"""Processes that read groups of recordings: on this machine, or a Dask cluster's."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager

from errors import UserError


def start_workers(executor: str, workers: int) -> AbstractContextManager[tuple[Executor, int]]:
    """An executor and the number of tasks that keep it busy.

    `executor` is "processes", of which there are `workers`, or the address of a Dask scheduler.
    The processes are forked here and hold copies of whatever is in memory now. BrokenExecutor is
    raised when one of them is killed, UserError when there is no scheduler.
    """
    return _processes(workers) if executor == "processes" else _dask(executor)


@contextmanager
def _processes(workers: int) -> Iterator[tuple[Executor, int]]:
    # A fork has all that is imported at once, but would copy other threads' locks in any state.
    alone = threading.active_count() == 1
    context = multiprocessing.get_context("fork" if alone else "forkserver")
    pool = ProcessPoolExecutor(workers, context, _follow_parent)
    try:
        pool.submit(int)  # which starts them
        yield pool, 2 * workers
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise UserError(f"executor {address!r} needs Dask: pip install 'scd-net[dask]'") from None
    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise UserError(f"executor {address!r}: no Dask scheduler there ({error})") from None
    with client:
        try:
            yield client.get_executor(pure=False), 2 * max(sum(client.nthreads().values()), 1)
        except KilledWorker as error:
            raise BrokenExecutor(str(error)) from error


def _follow_parent() -> None:
    """Let a worker process leave interrupts to its parent, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
