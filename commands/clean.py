"""List, or remove, what removed or renamed runs and datasets left under metrics/ and data/.

That is: files and folders beside a stage's outputs that no stage of this experiment writes. DVC's
cache keeps what it had of them; `dvc gc` frees that.

    python -m commands.clean            # lists them
    python -m commands.clean --remove   # removes them
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from experiment.workflow import dvc_yaml

KINDS = (".zarr", ".json", ".csv", ".pt", ".png", ".html")  # of files that stages write


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.clean",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--remove", action="store_true", help="remove what is listed")
    remove = parser.parse_args().remove
    left = list(leftovers())
    for path in left:
        print(path)
        if remove:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"{len(left)} {'removed' if remove else 'left over; --remove removes them'}")


def leftovers() -> Iterator[Path]:
    """Files and folders of the kind that stages write, but of no entry of this experiment."""
    written = {path for _, described in dvc_yaml.entries() for path in dvc_yaml.outputs(described)}
    folders = {path.parent for path in _possible()} - {Path("metrics")}
    for folder in sorted(folders):
        for path in sorted(folder.glob("*")):
            hidden = path.name.startswith(".")
            output = path.suffix in KINDS or path.is_dir()
            if not hidden and output and path not in written and path not in folders:
                yield path


def _possible() -> Iterator[Path]:
    """A path of every output of every stage, whether or not an entry of it exists."""
    stages = dvc_yaml.load_yaml(Path(dvc_yaml.FILE))["stages"]
    for described in stages.values():
        yield from dvc_yaml.outputs(described.get("do", described))


if __name__ == "__main__":
    main()
