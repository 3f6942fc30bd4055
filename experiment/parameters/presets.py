"""Presets: experiments by what differs from the default; params.yaml, written from one."""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from experiment.parameters import params
from experiment.parameters.schema import Params, keys

FOLDER = Path(__file__).parents[2] / "presets"
# Sections with entries under names of the user's choice.
NAMED = ("sources", "runs", "supervised_runs", "transfers", "ensembles")
HEAD = """\
# Everything that an experiment can vary. docs/parameters.md has the same as a table, beside the
# paper's values; what there is to know of the datasets is in datasets/.
"""


def names() -> list[str]:
    """The names of all presets, the default's too."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def values(preset: str) -> dict[str, Any]:
    """All values of a preset: its own, and the default's where it has none. Datasets, runs and the
    like are its own alone.
    """
    found: dict[str, Any] = params.load_yaml(FOLDER / "default.yaml")
    if preset != "default":
        stated = params.load_yaml(FOLDER / f"{preset}.yaml")
        _update(found, {section: {} for section in NAMED} | stated)
    return found


def joined(preset: str, here: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a preset with what those of params.yaml have of the user's own: the entries
    that no preset has, the runs and datasets that they name, where archives are, and `machine`.
    """
    found, own = values(preset), users(here)
    for transfer in own["transfers"].values():
        own["runs"][transfer["run"]] = here["runs"][transfer["run"]]
        own["sources"][transfer["target"]] = here["sources"][transfer["target"]]
    for ensemble in own["ensembles"].values():
        runs = [ensemble[stream] for stream in ensemble if stream != "weights"]
        own["runs"] |= {run: here["runs"][run] for run in runs if run is not None}
    for run in [*own["runs"].values(), *own["supervised_runs"].values()]:
        own["sources"][run["dataset"]] = here["sources"][run["dataset"]]
    for name, source in here["sources"].items():
        if found["sources"].get(name) == "archives" and source != "synthetic":
            found["sources"][name] = source
    for section in NAMED:
        found[section] = found[section] | own[section] | found[section]
    return found | {"machine": here["machine"]}


def users(here: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of params.yaml under names that no preset has."""
    released = [values(preset) for preset in names()]
    return {
        section: {
            name: entry
            for name, entry in here[section].items()
            if not any(name in preset[section] for preset in released)
        }
        for section in NAMED
    }


def text(found: Mapping[str, Any], before: str = "") -> str:
    """These values as params.yaml, in DVC's form. Behind a key stands its meaning, of entries under
    names that of the first alone; the user's own entries keep their comments of `before`.
    """
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(dict(found), stream)
    meanings = {name: field["description"] for name, field in keys(Params).items()}
    kept = _comments(before, users(found))
    lines = HEAD.splitlines()
    for line, path in _paths(stream.getvalue()):
        above, behind = kept.get(path, ([], ""))
        named = path[:1] and path[0] in NAMED
        if len(path) == 1 and path != ("seed",):
            above = [""]
        if named and len(path) == 1:
            # Where an experiment takes all entries out, DVC would put a comment behind it wrongly.
            above.append(f"# {meanings[path[0]]}")
        elif not behind:
            behind = meanings.pop(".".join([path[0], "<name>", *path[2:]] if named else path), "")
        lines += [*above, f"{line}  # {behind}" if behind else line]
    return "\n".join(lines) + "\n"


def _comments(
    written: str, entries: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, ...], tuple[list[str], str]]:
    """The comments of entries of sections, by path: lines above a key, and what is behind it."""
    found = {}
    above: list[str] = []
    for line, path in _paths(written):
        if line.lstrip().startswith("#"):
            above.append(line)
            continue
        if len(path) > 1 and path[1] in entries.get(path[0], ()):
            behind = re.search(r"\s# ?(.*)$", line)
            found[path] = (above, behind[1] if behind else "")
        above = []
    return found


def _paths(written: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each line of YAML in block style, and the keys that lead to the key on it."""
    path: list[tuple[int, str]] = []
    for line in written.splitlines():
        key = re.match(r"( *)([^\s#-].*?):(?: |$)", line)
        if key:
            path = [*(part for part in path if part[0] < len(key[1])), (len(key[1]), key[2])]
        yield line, tuple(name.strip("'\"") for _, name in path) if key else ()


def _update(found: dict[str, Any], stated: Mapping[str, Any]) -> None:
    for name, value in stated.items():
        if isinstance(value, dict) and name not in NAMED:
            _update(found[name], value)
        else:
            found[name] = value
