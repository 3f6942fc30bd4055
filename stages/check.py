"""Check params.yaml and the datasets that it names, before any other stage runs."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiment import artifacts
from experiment.parameters import checks, params
from experiment.workflow import console, dvc_process, dvc_yaml
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
    for line in archives_needed(p.sources) if dvc_process.allows_missing() else ():
        print(f"check: {line}", file=sys.stderr)
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
    except Exception:  # zarr's are of many kinds
        return None


def archives_needed(datasets: Iterable[str]) -> Iterator[str]:
    """A line for each dataset that is to be prepared otherwise than before, without its archives.

    DVC told `--allow-missing` does not bring them, and ends before it runs `prepare`, in its own
    words: "No such file or directory".
    """
    lock = Path("dvc.lock")
    recorded = params.load_yaml(lock)["stages"] if lock.exists() else {}
    for dataset in datasets:
        before = recorded.get(f"prepare@{dataset}")
        raw = artifacts.RAW / dataset
        if before is None or raw.exists():
            continue
        values = {
            f"{file}:{name}": value
            for file, named in before["params"].items()
            for name, value in named.items()
        }
        if values != dvc_yaml.parameters(dvc_yaml.describe("prepare", dataset)):
            yield (
                f"{raw} is not here, and {dataset} is to be prepared otherwise than before: "
                f"bring its archives first: dvc repro raw@{dataset}"
            )


if __name__ == "__main__":
    console.run(main)
