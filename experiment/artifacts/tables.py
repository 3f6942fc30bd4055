"""Small results: tables of metrics/, JSON lists of rows for stages and CSV files for plots.

Their numbers are rounded to what is worth comparing.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(path: str, **figures: float) -> str:
    """Writes a table of one row, percentages to two decimals; returns what to say of it."""
    row = {name: round(figure, 2) for name, figure in figures.items()}
    write_rows(path, [row])
    return f"{path}: {', '.join(f'{name} {figure}' for name, figure in row.items())}"


def write_rows(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a table as a JSON list, a line a row."""
    lines = ",\n".join(f"  {json.dumps(_rounded(row))}" for row in rows)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(f"[\n{lines}\n]\n")


def read(path: str) -> list[dict[str, Any]]:
    """The rows of a table that `write` or `write_rows` wrote."""
    return json.loads(Path(path).read_text())


def write_csv(path: str, rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Writes rows with the same keys as a CSV; `columns` are the keys where there may be no row."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0] if rows else columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rounded(row) for row in rows)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()}
