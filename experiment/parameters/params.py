"""Reading params.yaml and datasets/<name>.yaml as typed, checked values.

`p = read()`, then `p.pretrain.queue`, `p.runs[run].stream`, `p.datasets[name].classes`.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML

from experiment.parameters import checks
from experiment.parameters.schema import Dataset, Params, keys
from experiment.parameters.types import NAMES, Entries, InvalidParameter, Section, names

PATH = "params.yaml"
DATASETS = "datasets"


def read(path: Path | str = PATH, *, datasets: Path | str = DATASETS) -> Params:
    """The parameters of an experiment and its datasets, all of them checked.

    Raises InvalidParameter with every mistake of the files, one a line: file, key, value and what
    is allowed.
    """
    return checked(load_yaml(Path(path)), path, datasets=datasets)


def checked(found: Any, path: Path | str = PATH, *, datasets: Path | str = DATASETS) -> Params:
    """The same of values that `path` has or is to have."""
    mistakes: list[str] = []
    p = _validated(Params, found, f"{path}", mistakes)
    sources = found.get("sources") if isinstance(found, dict) else None
    entries = Entries()
    for name in sources if isinstance(sources, dict) else ():
        file = Path(datasets, f"{name}.yaml")
        if not file.is_file():
            known = names(sorted(f.stem for f in file.parent.glob("*.yaml")))
            missing = (
                f"sources.{name}: there is no {file}; there are {known}; {checks.own(f'{file}')}"
            )
            mistakes.append(f"{path}: {missing}")
            continue
        try:
            entries[str(name)] = _validated(Dataset, load_yaml(file), f"{file}", mistakes)
        except InvalidParameter as error:
            mistakes.append(str(error))
    if p is not None and not mistakes:
        p._datasets.update(entries)
        mistakes += [f"{path}: {mistake}" for mistake in checks.contradictions(p)]
    if p is None or mistakes:
        raise InvalidParameter(*mistakes)
    return p


def load_yaml(path: Path) -> Any:
    """The values of a file, read as DVC reads it (YAML 1.2). Raises InvalidParameter if it is not
    YAML, or asks to be read as another version.
    """
    data = path.read_bytes()
    try:
        text = data.decode()
        if re.match(r"\ufeff?(?:[ \t]*(?:#.*)?\n)*%", text):
            raise ValueError("a line that begins with % is for other readers than DVC: remove it")
        return YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # a tag such as !!int raises what its constructor happens to
        raise InvalidParameter(f"{path}: not YAML: {' '.join(str(error).split())}") from None


S = TypeVar("S", bound=Section)


def _validated(schema: type[S], found: Any, file: str, mistakes: list[str]) -> S | None:
    """The section, or None after its mistakes were added to `mistakes`."""
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        mistakes += [f"{file}: {_mistake(schema, one)}" for one in error.errors()]
        return None


def _mistake(schema: type[Section], error: Mapping[str, Any]) -> str:
    """One of pydantic's errors in a line: the key, its value and what it should be."""
    *place, last = error["loc"] or ["the file"]
    of_name = last == "[key]"
    parts = place if of_name else [*place, last]
    name = ".".join(" ".join(str(part).split()) for part in parts)
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is unknown, allowed here: {names(_known(schema, place))}"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{name} is {_shown(error['input'])}: should be keys with values"
    if of_name:
        return f"{name}: {NAMES}"
    return f"{name} is {_shown(error['input'])}: {error['msg'].removeprefix('Input ')}"


def _known(schema: type[Section], place: list[Any]) -> Iterator[str]:
    """The keys that may stand at a place."""
    for name in keys(schema):
        *path, last = name.split(".")
        if len(path) == len(place) and all(
            a in (b, "<name>") for a, b in zip(path, place, strict=True)
        ):
            yield last


def _shown(value: Any) -> str:
    """A value as the file has it, in short."""
    if isinstance(value, dict):
        return f"{{{names(value)}}}"
    try:
        return "null" if value is None else textwrap.shorten(repr(value), 200)
    except ValueError:
        return "a number of thousands of digits"
