"""Small results: the JSON and CSV files of metrics/, rounded to what is worth comparing."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(path: str, **figures: Any) -> str:
    """Writes a JSON of figures, percentages to two decimals; returns what to say of it."""
    rounded = {name: _rounded(figure) for name, figure in figures.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(rounded, indent=2) + "\n")
    said = ", ".join(f"{name} {figure}" for name, figure in rounded.items())
    return f"{path}: {said}"


def read(path: str) -> dict[str, Any]:
    """The figures of a JSON that `write` wrote."""
    return json.loads(Path(path).read_text())


def read_rows(path: str) -> list[dict[str, str]]:
    """The rows of a CSV, as the text that is in it."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows with the same keys as a CSV, numbers to six digits."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


def _rounded(figure: Any) -> Any:
    if isinstance(figure, dict):
        return {name: _rounded(part) for name, part in figure.items()}
    return round(figure, 2) if isinstance(figure, float) else figure
