"""Processes that read groups of recordings: on this machine, or a Dask cluster's."""

import hashlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from errors import UserError
from skeletons.preparing.make_clips import read_group

SAID, ENDED = 5, 60  # seconds without a Dask worker after which that is said, and is the end


def _code() -> str:
    """A hash of what decides the result besides parameters and data: the code of this package but
    the generators of synthetic archives, and versions.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.glob("[!_s]*/*.py")):
        digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    versions = [version(name) for name in ("isal", "numcodecs", "numpy", "zarr")]
    return f"{digest.hexdigest()} {versions}"


CODE = _code()  # of this process, whatever happens to the files from now on


class Workers(NamedTuple):
    """Processes that read groups.

    Args:
        submit: takes the arguments of `read_group`, and returns a future.
        result: waits for that future's result.
        slots: how many tasks keep them busy.
    """

    submit: Callable[..., Any]
    result: Callable[[Any], Any]
    slots: int


def start_workers(executor: str, workers: int) -> AbstractContextManager[Workers]:
    """`executor` is "processes", of which there are `workers`, or the address of a Dask scheduler.

    The processes are forked here and hold copies of whatever is in memory now. BrokenExecutor is
    raised when one of them is killed, UserError when there is no scheduler or no worker of it, or
    one has other code.
    """
    return _processes(workers) if executor == "processes" else _dask(executor)


@contextmanager
def _processes(workers: int) -> Iterator[Workers]:
    # A fork has all that is imported at once, but would copy other threads' locks in any state.
    alone = threading.active_count() == 1
    context = multiprocessing.get_context("fork" if alone else "forkserver")
    pool = ProcessPoolExecutor(workers, context, _follow_parent)
    try:
        pool.submit(int)  # which starts them
        yield Workers(lambda *task: pool.submit(read_group, *task), Future.result, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(address: str) -> Iterator[Workers]:
    try:
        from distributed import CancelledError, Client, KilledWorker
    except ImportError:
        raise UserError(f"executor {address!r} needs Dask: pip install 'scd-net[dask]'") from None
    for logger in ("distributed", "distributed.client", "asyncio"):  # their tracebacks
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise UserError(f"executor {address!r}: no Dask scheduler there ({error})") from None

    def submit(*task: Any) -> Any:
        return client.submit(_read, CODE, *task, pure=False)

    def result(future: Any) -> Any:
        idle = 0
        while True:
            try:
                return future.result(timeout=1)
            except TimeoutError:
                if future.done():  # just now, or the error is the task's own
                    return future.result()
            idle = 0 if client.scheduler_info()["workers"] else idle + 1
            if idle == SAID:
                print(f"executor {address!r} has no worker: waiting for one", file=sys.stderr)
            if idle == ENDED:
                raise UserError(
                    f"executor {address!r} had no worker for {ENDED} seconds; start one and run "
                    "again: finished parts are kept"
                )

    with client:
        try:
            result(client.submit(int, pure=False))  # when there is a worker
            for worker, code in client.run(_held, on_error="return").items():
                if code != CODE:
                    raise _other_code(worker)
            yield Workers(submit, result, 2 * sum(client.nthreads().values()))
        except KilledWorker as error:
            raise BrokenExecutor(str(error)) from error
        except Exception as error:
            if client.status == "running" and not isinstance(error, CancelledError):
                raise
            raise UserError(
                f"executor {address!r}: the Dask scheduler is gone; start one and run again: "
                "finished parts are kept"
            ) from error


def _held() -> str:
    return CODE


def _read(code: str, *task: Any) -> Any:
    """Return what `read_group` does, on a worker that may have joined since the first task."""
    if code != CODE:
        from distributed import get_worker

        raise _other_code(get_worker().address)
    return read_group(*task)


def _other_code(worker: str) -> UserError:
    return UserError(
        f"Dask worker {worker} has other code, or other versions of packages: restart it, in this "
        "checkout and environment"
    )


def _follow_parent() -> None:
    """Let a worker process leave interrupts to its parent, and end when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
