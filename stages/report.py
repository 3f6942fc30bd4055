"""Report every result: one JSON of numbers, and one page of tables."""

from pathlib import Path
from typing import Any

from experiment.artifacts import tables
from experiment.parameters import params
from experiment.reports import results_page
from experiment.workflow import console
from machine.host import atomic

# Kinds of evaluation with one row each, and the parameters that name them.
KINDS = {
    "linear": "runs",
    "retrieval": "runs",
    "ensemble": "ensembles",
    "transfer": "transfers",
    "supervised": "supervised_runs",
}


def main() -> str:
    p = params.read()
    published = params.load_yaml(Path("metrics/published.yaml"))
    # Of each kind of evaluation, by name: its figures, or those of each fraction of the labels.
    found: dict[str, Any] = {
        kind: {name: tables.read(f"metrics/{kind}/{name}.json")[0] for name in getattr(p, section)}
        for kind, section in KINDS.items()
    }
    found["semi"] = {
        run: {f"{100 * row['fraction']:g}%": row for row in tables.read(f"metrics/semi/{run}.json")}
        for run in p.runs
    }
    tables.write_json("metrics/summary.json", summary(found))
    for kind in ("weights", "floor"):
        found[kind] = {run: tables.read(f"metrics/{kind}/{run}.json")[0] for run in p.runs}
    page = results_page.page(p, found, published)
    atomic.write(Path("metrics/README.md"), page.encode())
    return f"metrics/README.md and metrics/summary.json: {len(p.runs)} runs"


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """One number a result, the top-1 accuracy in %: few enough to compare experiments by."""

    def top1(figures: dict[str, Any]) -> Any:
        if "top1" in figures:
            return round(figures["top1"], 2)
        return {name: top1(part) for name, part in figures.items()}

    return {kind: top1(named) for kind, named in found.items() if named}


if __name__ == "__main__":
    console.run(main)
