"""Reading params.yaml and datasets/<name>.yaml as typed, checked values.

`p = read()`, then `p.pretrain.queue`, `p.runs[run].stream`, `p.datasets[name].classes`.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from experiment.parameters import checks, messages
from experiment.parameters.schema import Dataset, Params
from experiment.parameters.types import Entries, InvalidParameter, Section

PATH = "params.yaml"
DATASETS = "datasets"


def read(path: Path | str = PATH, *, datasets: Path | str = DATASETS) -> Params:
    """The parameters of an experiment and its datasets, all of them checked.

    Raises InvalidParameter with every mistake of the files, one a line: file, key, value and what
    is allowed.
    """
    found, mistakes = _load(Path(path))
    p = _validated(Params, found, f"{path}", mistakes)
    sources = found.get("sources") if isinstance(found, dict) else None
    entries = Entries()
    for name in sources if isinstance(sources, dict) else ():
        file = Path(datasets, f"{name}.yaml")
        if not file.is_file():
            known = messages.names(sorted(f.stem for f in file.parent.glob("*.yaml")))
            mistakes.append(
                f"{path}: sources.{name}: there is no {file}; there are {known}; "
                f"{messages.own(f'{file}')}"
            )
            continue
        entry, unread = _load(file)
        mistakes += unread
        entries[str(name)] = _validated(Dataset, entry, f"{file}", mistakes)
    if p is not None and not mistakes:
        p._datasets.update(entries)
        mistakes += [f"{path}: {mistake}" for mistake in checks.contradictions(p)]
    if p is None or mistakes:
        raise InvalidParameter("\n".join(mistakes))
    return p


def load_yaml(path: Path) -> Any:
    """What a file says, read as DVC reads it (YAML 1.2). Raises InvalidParameter if it is not."""
    try:
        return YAML(typ="safe", pure=True).load(path)
    except YAMLError as error:
        raise InvalidParameter(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def _load(path: Path) -> tuple[Any, list[str]]:
    try:
        return load_yaml(path), []
    except InvalidParameter as error:
        return None, [str(error)]


S = TypeVar("S", bound=Section)


def _validated(schema: type[S], found: Any, file: str, mistakes: list[str]) -> S | None:
    """The section, or None after its mistakes were added to `mistakes`."""
    if mistakes and found is None:
        return None
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        for mistake in error.errors():
            mistakes.append(f"{file}: {messages.mistake(schema, mistake)}")
        return None
