"""Write params.yaml from a preset, or renew its comments.

python -m commands.preset paper     # the experiment of presets/paper.yaml
python -m commands.preset default   # the default again
python -m commands.preset           # its own values, with each key's meaning behind it

What no preset has stays: datasets, runs, transfers and ensembles of your own with their comments,
the runs and datasets that they name, the places of your archives, and `machine`.
"""

import argparse
from pathlib import Path

from experiment.parameters import params, presets
from experiment.workflow import console
from machine.host import atomic


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.preset",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("preset", nargs="?", choices=presets.names())
    preset = parser.parse_args().preset
    console.say("preset", lambda: write(preset))


def write(preset: str | None) -> str:
    """Writes params.yaml, if it is valid before and after."""
    path = Path(params.PATH)
    params.read(path)
    here = params.load_yaml(path)
    values = presets.joined(preset, here) if preset else here
    params.checked(values)
    atomic.write(path, presets.text(values, path.read_text(encoding="utf-8")).encode())
    return f"{path}: {preset or 'comments renewed'}"


if __name__ == "__main__":
    main()
