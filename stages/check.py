"""Check params.yaml and the datasets that it names, before any other stage runs."""

import sys

from errors import UserError
from experiment import artifacts
from experiment.parameters import checks, params
from experiment.workflow import console
from skeletons.clips import store
from skeletons.clips.store import Clips

# What the other stages wait for. Always the same, so that it makes none of them run again.
CHECKED = artifacts.DATA / "checked"


def main() -> str:
    p = params.read()
    checks.device(p)
    checks.lists(p)
    for warning in (*checks.warnings(p), *checks.on_transfers(p, prepared)):
        print(f"check: {params.PATH}: {warning}", file=sys.stderr)
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(f"{params.PATH} is valid\n")
    artifacts.NO_SCORES.parent.mkdir(exist_ok=True)
    artifacts.NO_SCORES.write_text("a stream that an ensemble is without\n")
    return f"{CHECKED}: {params.PATH} is valid"


def prepared(dataset: str) -> Clips | None:
    """The clips of a dataset, without their frames; None before it is prepared, and for a store
    that cannot be read, of which the stages that need it say why.
    """
    try:
        return store.read(artifacts.store(dataset), frames=False)
    except (UserError, OSError):
        return None


if __name__ == "__main__":
    console.run(main)
