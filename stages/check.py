"""Stage check: refuses an invalid params.yaml before anything else runs or is cleared away."""

from pathlib import Path

from experiment import console, params

# What stage raw waits for, and with it all others. Always the same, so that it makes none of them
# run again.
CHECKED = Path("data/checked")


def main() -> str:
    params.read()
    CHECKED.parent.mkdir(exist_ok=True)
    CHECKED.write_text(f"{params.PATH} is valid\n")
    return f"{CHECKED}: {params.PATH} is valid"


if __name__ == "__main__":
    console.run(main)
