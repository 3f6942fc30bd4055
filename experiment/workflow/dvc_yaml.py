"""The stages of dvc.yaml, with the names of this experiment's entries filled in."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from experiment.parameters.params import PATH, load_yaml

FILE = "dvc.yaml"


def entries() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of every stage of the experiment (`pretrain@RUN`) and its description."""
    values = load_yaml(Path(PATH))
    for stage, described in load_yaml(Path(FILE))["stages"].items():
        if "foreach" not in described:
            yield stage, described
        else:
            for key, item in _items(described, values).items():
                yield f"{stage}@{key}", _filled(described["do"], key, item)


def describe(stage: str, key: str = "") -> dict[str, Any]:
    """The description of one entry: cmd, deps, params, outs, metrics and plots."""
    described: dict[str, Any] = load_yaml(Path(FILE))["stages"][stage]
    if "foreach" not in described:
        return described
    items = _items(described, load_yaml(Path(PATH)))
    return dict(_filled(described["do"], key, items[key]))


def parameters(described: dict[str, Any]) -> dict[str, Any]:
    """The values that a stage depends on, by file and dotted name."""
    read = cache(lambda file: load_yaml(Path(file)))  # which takes longer than all else here
    found = {}
    for entry in described.get("params", ()):
        for file, names in ({PATH: [entry]} if isinstance(entry, str) else entry).items():
            for name in names or ():
                found[f"{file}:{name}"] = _at(read(file), name)
            if not names:  # the whole file
                found[f"{file}:"] = read(file)
    return found


def files(described: dict[str, Any]) -> list[Path]:
    """The files that a stage depends on, those in folders too."""
    found = []
    for path in map(Path, described["deps"]):
        inside = path.rglob("*") if path.is_dir() else [path]
        found += [p for p in inside if p.is_file() and "__pycache__" not in p.parts]
    return sorted(found)


def outputs(described: dict[str, Any]) -> Iterator[Path]:
    """The files and folders that a stage writes."""
    for kind in ("outs", "metrics", "plots"):
        for entry in described.get(kind, ()):
            yield Path(entry if isinstance(entry, str) else next(iter(entry)))


def _items(described: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The entries of params.yaml, of these values, for which a stage is repeated, by their keys."""
    return dict(values[described["foreach"].strip("${}")])


def _filled(value: Any, key: str, item: Any) -> Any:
    """A value with `${key}`, `${item}` and `${item.NAME}` filled in."""
    if isinstance(value, dict):
        return {_filled(k, key, item): _filled(v, key, item) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(entry, key, item) for entry in value]
    if not isinstance(value, str):
        return value

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        return key if name == "key" else str(_at({"item": item}, name))

    return re.sub(r"(?<!\\)\$\{(.+?)\}", fill, value)


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values
