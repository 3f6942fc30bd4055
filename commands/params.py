"""Print every parameter as a Markdown table: docs/parameters.md.

python -m commands.params > docs/parameters.md
"""

import argparse
import json
from typing import Any

from experiment.parameters import presets
from experiment.parameters.schema import Dataset, Params, keys
from experiment.parameters.types import names

HEAD = """# Parameters

`params.yaml` has everything that an experiment can vary. The columns "default" and "paper" have
the values of `presets/default.yaml` and `presets/paper.yaml`; what there is to know of a dataset is
in `datasets/<name>.yaml`. `python -m commands.params > docs/parameters.md` writes this page from
`experiment/parameters/schema.py`, which refuses every other key, type and value.

## params.yaml

| parameter | default | paper | allowed | meaning |
| --- | --- | --- | --- | --- |
"""
NOUNS = {"integer": "an integer", "number": "a number", "string": "text", "null": "null"}
BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
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
    default, paper = presets.values("default"), presets.values("paper")
    rows = [
        [name, _value(default, name), _value(paper, name), allowed(field), field["description"]]
        for name, field in keys(Params).items()
    ]
    datasets = [
        [
            name,
            _shown(field["default"]) if "default" in field else "",
            allowed(field),
            field["description"],
        ]
        for name, field in keys(Dataset).items()
    ]
    return HEAD + _lines(rows) + DATASETS + _lines(datasets)


def allowed(field: dict[str, Any]) -> str:
    """The values that a key may have, from its JSON schema; none of a section."""
    if "anyOf" in field:
        return " or ".join(map(allowed, field["anyOf"]))
    if "enum" in field:
        return f"one of {names(field['enum'])}"
    match field.get("type"):
        case "array":
            return f"a list, of each: {allowed(field['items'])}"
        case "boolean":
            return "true or false"
        case "object":
            return "keys with values"
        case None:
            return ""
    bounds = [f"{word} {field[bound]}" for bound, word in BOUNDS.items() if bound in field]
    return ", ".join([NOUNS[field["type"]], *bounds])


def _value(values: Any, name: str) -> str:
    if "<" in name:
        return ""
    for part in name.split("."):
        values = values[part]
    return "" if isinstance(values, dict) else _shown(values)


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _lines(rows: list[list[str]]) -> str:
    """Rows of a table, without sections."""
    return "".join(f"| {' | '.join([f'`{row[0]}`', *row[1:]])} |\n" for row in rows if row[-2])


if __name__ == "__main__":
    main()
