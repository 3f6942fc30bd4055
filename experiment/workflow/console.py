"""Output of a stage or command: a bar while it works, one line when it is done or cannot be."""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from errors import UserError


def bar(title: str, unit: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """A progress bar with rate and time left, to put around what is iterated.

    Quiet when standard error is not a terminal, and in all but the first of several processes.
    """
    quiet = os.environ.get("RANK", "0") != "0" or None
    return functools.partial(tqdm, desc=title, unit=unit, disable=quiet, dynamic_ncols=True)


def run(main: Callable[..., str]) -> None:
    """Runs a stage with the command line's arguments and prints what it says it wrote."""
    stage = Path(sys.argv[0]).stem
    try:
        inspect.signature(main).bind(*sys.argv[1:])
    except TypeError:
        sys.exit(f"usage: python -m stages.{stage} {' '.join(inspect.signature(main).parameters)}")
    say(" ".join([stage, *sys.argv[1:]]), lambda: main(*sys.argv[1:]))


def say(title: str, work: Callable[[], str]) -> None:
    """Prints what `work` returns.

    A user's mistake, a file that is not there or a full disk ends the program with what to do about
    it, and so do processes that train together when one of them has ended, which says why; anything
    else is a fault of the program and keeps its traceback.
    """
    try:
        if said := work():
            print(said)
    except (UserError, OSError) as error:
        sys.exit(f"{title}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{title}: interrupted")
    except RuntimeError as error:
        if not re.search("gloo/transport|ncclRemoteError", str(error)):
            raise
        first = os.environ.get("RANK", "0") == "0"
        sys.exit(f"{title}: another process of the run has ended; run again" if first else 1)
