"""params.yaml, the one place for everything that an experiment can vary."""

from typing import Any

import yaml


def read() -> dict[str, Any]:
    """The parameters of this experiment."""
    with open("params.yaml") as file:
        return yaml.safe_load(file)
