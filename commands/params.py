"""Print every parameter as a Markdown table: docs/parameters.md.

python -m commands.params > docs/parameters.md
"""

import argparse
import json
from typing import Any

from pydantic.fields import FieldInfo

from experiment.parameters import messages, params
from experiment.parameters.schema import Dataset, Params, leaves

HEAD = """# Parameters

`params.yaml` has everything that an experiment can vary; its values are in the column "default".
`presets/paper.yaml` has the paper's. What there is to know of a dataset is in
`datasets/<name>.yaml`. `python -m commands.params > docs/parameters.md` writes this page from
`experiment/parameters/schema.py`, which refuses every other key, type and value.

## params.yaml

| parameter | default | paper | allowed | meaning |
| --- | --- | --- | --- | --- |
"""
DATASETS = """
## datasets/&lt;name&gt;.yaml

| parameter | default | allowed | meaning |
| --- | --- | --- | --- |
"""


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m commands.params",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    print(page(), end="")


def page() -> str:
    """The page of all parameters."""
    here, paper = params.read(), params.read("presets/paper.yaml")
    rows = [
        [f"`{name}`", _value(here, name), _value(paper, name), messages.allowed(field), meaning]
        for name, field, meaning in _rows(Params)
    ]
    datasets = [
        [f"`{name}`", _default(field), messages.allowed(field), meaning]
        for name, field, meaning in _rows(Dataset)
    ]
    return HEAD + _lines(rows) + DATASETS + _lines(datasets)


def _rows(schema: type[Any]) -> list[tuple[str, FieldInfo, str]]:
    """Keys that hold values, and entries under names: name, field and meaning."""
    found = []
    for name, field in leaves(schema):
        inner, named = messages.section_of(field)
        if inner is None or named:
            found.append((name, field, messages.meaning(field)))
    return found


def _value(p: Params, name: str) -> str:
    if "<" in name:
        return ""
    value: Any = p
    for part in name.split("."):
        value = getattr(value, part)
    return "" if isinstance(value, dict) else _shown(value)


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() else _shown(field.default)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _lines(rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


if __name__ == "__main__":
    main()
