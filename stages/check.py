"""Check params.yaml and the datasets that it names, before any other stage runs."""

import sys

from experiment import artifacts, checks, console, params

# What the other stages wait for. Always the same, so that it makes none of them run again.
CHECKED = artifacts.DATA / "checked"


def main() -> str:
    p = params.read()
    checks.device(p)
    for warning in checks.warnings(p):
        print(f"check: {params.PATH}: {warning}", file=sys.stderr)
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(f"{params.PATH} is valid\n")
    artifacts.NO_SCORES.parent.mkdir(exist_ok=True)
    artifacts.NO_SCORES.write_text("a stream that an ensemble is without\n")
    return f"{CHECKED}: {params.PATH} is valid"


if __name__ == "__main__":
    console.run(main)
