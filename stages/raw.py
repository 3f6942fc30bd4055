"""Bring a dataset's archives to data/raw/<dataset>/: linked or copied from a folder, or fetched.

The folder is that of stage `synthetic` where the dataset's source is `synthetic`.
"""

import os
import shutil
from pathlib import Path

from errors import UserError
from experiment import artifacts
from experiment.parameters import params
from experiment.parameters.schema import Dataset
from experiment.workflow import console, dvc_process
from skeletons.archives import archive


def main(dataset: str) -> str:
    p = params.read()
    source, entry = p.sources[dataset], p.datasets[dataset]
    target = artifacts.RAW / dataset
    partial = artifacts.RAW / f".{dataset}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    made = str((artifacts.SYNTHETIC / dataset).absolute())
    try:
        bring(entry, made if source == "synthetic" else source, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return f"{target}: {size / 1e6:.1f} MB from {source}"


def bring(dataset: Dataset, source: str, folder: Path) -> None:
    """Link, copy or fetch a dataset's archives from a folder or URL into another; check them."""
    entry = dataset.archives
    archives = sorted({str(archive.split_path(name)[0]) for name in entry.files})
    for name in archives:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"archive {name} must be a path inside the source")
    access = f"get it through {entry.access}" if entry.access else "ask its owner for it"
    if "://" in source:
        for name in archives:
            url = f"{source.rstrip('/')}/{name}"
            if not dvc_process.fetch(url, folder / name):
                raise UserError(f"DVC could not get {url} (it says why above); {access}")
    else:
        # DVC may run this in a copy of the project, which does not hold the archives
        place = Path(os.environ.get("DVC_ROOT", ""), Path(source).expanduser())
        missing = [name for name in archives if not (place / name).exists()]
        if missing:
            pattern = "; patterns are not expanded: list the files" * ("*" in "".join(missing))
            raise UserError(
                f"{place} lacks {', '.join(missing)}: {access} and put it there under this name, "
                f"or name another folder under `sources` in params.yaml{pattern}"
            )
        for name in archives:
            archive.link(place / name, folder / name)
    for name, md5 in entry.md5.items():
        archive.check_md5(folder / name, md5)
    try:
        for name in (*entry.skeletons, *entry.labels):
            archive.check(folder / name, pickled=dataset.format == "pyskl")
    except archive.ArchiveError as error:  # with the path that the user knows
        raise UserError(str(error).replace(f"{folder}", source.rstrip("/"))) from None


if __name__ == "__main__":
    console.run(main)
