"""Small results: tables of metrics/, each a JSON list with a row a line, as stages and DVC's plots
read it.

Their numbers are rounded to what is worth comparing.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine.host import atomic


def write(path: str, **figures: float) -> str:
    """Write a table of one row, percentages to two decimals; return a line to say of it, and if its
    `top1` does not beat its `untrained_top1`.
    """
    row = {name: round(figure, 2) for name, figure in figures.items()}
    write_rows(path, [row])
    said = ", ".join(f"{name} {figure}" for name, figure in row.items())
    weak = "untrained_top1" in row and unbeaten(row["top1"], untrained=row["untrained_top1"])
    return f"{path}: {said}; {weak}" if weak else f"{path}: {said}"


def unbeaten(top1: float, **floors: float) -> str:
    """A clause on the floors that an accuracy does not beat, by their names; empty if none."""
    names = [name for name, floor in floors.items() if top1 <= floor]
    return f"no better than {' and '.join(names)}" if names else ""


def write_rows(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write a table of rows with the same keys."""
    lines = ",\n".join(f"  {json.dumps(_rounded(row))}" for row in rows)
    atomic.write(Path(path), f"[\n{lines}\n]\n".encode())


def write_json(path: str, value: Any) -> None:
    """Write a record, a line a figure, so that `git diff` shows which have changed."""
    atomic.write(Path(path), f"{json.dumps(value, indent=2)}\n".encode())


def read(path: str) -> list[dict[str, Any]]:
    """The rows of a table."""
    return json.loads(Path(path).read_text())


def write_csv(path: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a list for a person and a spreadsheet, as a CSV with a head."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    atomic.write(Path(path), text.getvalue().encode())


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
