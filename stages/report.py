"""Report every result: one JSON of numbers, one page of tables, and the tables that plots show."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiment.artifacts import tables
from experiment.parameters import params
from experiment.reports import results_page
from experiment.workflow import console

# Columns of linear's curves, and what the plot calls them.
LINEAR = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "train_loss": "training loss",
    "test_loss": "test loss",
}
# Tables of every run that are gathered in one, and their columns.
TABLES = (
    ("metrics/classes.csv", "metrics/linear/{}-classes.json", ("action", "top1")),
    ("metrics/confusion.csv", "metrics/linear/{}-confusion.json", ("actual", "predicted", "clips")),
    ("metrics/semi.csv", "metrics/semi/{}.json", ("fraction", "top1", "std")),
)


def main() -> str:
    p = params.read()
    published = params.load_yaml(Path("metrics/published.yaml"))
    # Of each kind of evaluation, by name: its figures, or those of each fraction of the labels.
    found: dict[str, Any] = {
        kind: {name: tables.read(f"metrics/{kind}/{name}.json")[0] for name in getattr(p, section)}
        for kind, section in (
            ("linear", "runs"),
            ("retrieval", "runs"),
            ("ensemble", "ensembles"),
            ("transfer", "transfers"),
            ("supervised", "supervised_runs"),
        )
    }
    found["semi"] = {
        run: {f"{100 * row['fraction']:g}%": row for row in tables.read(f"metrics/semi/{run}.json")}
        for run in p.runs
    }
    Path("metrics/summary.json").write_text(json.dumps(summary(found), indent=2) + "\n")
    found["weights"] = {run: tables.read(f"metrics/weights/{run}.json")[0] for run in p.runs}
    Path("metrics/README.md").write_text(results_page.page(p, found, published))
    runs = list(p.runs)
    curves("metrics/linear.csv", "metrics/linear/{}-epochs.json", runs)
    for path, source, columns in TABLES:
        gather(path, source, columns, runs)
    return f"metrics/README.md and metrics/summary.json: {len(runs)} runs"


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """One number a result, the top-1 accuracy in %: few enough to compare experiments by."""

    def top1(figures: dict[str, Any]) -> Any:
        if "top1" in figures:
            return round(figures["top1"], 2)
        return {name: top1(part) for name, part in figures.items()}

    return {kind: top1(named) for kind, named in found.items() if named}


def gather(path: str, source: str, columns: Sequence[str], runs: Sequence[str]) -> None:
    """Writes the rows of all runs' tables as one, with a column for the run."""
    rows = [{"run": run, **row} for run in runs for row in tables.read(source.format(run))]
    tables.write_csv(path, rows, ("run", *columns))


def curves(path: str, source: str, runs: Sequence[str]) -> None:
    """Writes all runs' tables as one curve a quantity: a row a run, quantity and epoch."""
    tables.write_csv(
        path,
        [
            {"run": run, "quantity": name, "epoch": row["epoch"], "value": row[column]}
            for column, name in LINEAR.items()
            for run in runs
            for row in tables.read(source.format(run))
        ],
        ("run", "quantity", "epoch", "value"),
    )


if __name__ == "__main__":
    console.run(main)
