"""Bring a dataset's archives to data/raw/<dataset>/: linked or copied from a folder, or fetched.

The folder is that of stage `synthetic` where the dataset's source is `synthetic`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from errors import UserError
from experiment import artifacts
from experiment.parameters import params
from experiment.parameters.schema import Dataset
from experiment.workflow import console
from skeletons.archives import archive, zip_path


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
    archives = sorted({str(zip_path.split(name)[0]) for name in entry.files})
    for name in archives:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"archive {name} must be a path inside the source")
    access = f"get it through {entry.access}" if entry.access else "ask its owner for it"
    if "://" in source:
        for name in archives:
            fetch(f"{source.rstrip('/')}/{name}", folder / name, access)
    else:
        # DVC may run this in a copy of the project, which does not hold the archives
        place = Path(os.environ.get("DVC_ROOT", ""), Path(source).expanduser())
        missing = [name for name in archives if not (place / name).exists()]
        if missing:
            raise UserError(
                f"{place} lacks {', '.join(missing)}: {access} and put it there under this name, "
                "or name another folder under `sources` in params.yaml"
            )
        for name in archives:
            link(place / name, folder / name)
    for name, md5 in entry.md5.items():
        check(folder / name, md5)
    for name in (*entry.skeletons, *entry.labels):
        archive.check(folder / name, pickled=dataset.format == "pyskl")


def link(origin: Path, copy: Path) -> None:
    """Hard link a file or a folder's files; copy where the file system cannot."""
    if origin.is_dir():  # whose mode is not copied: what is read-only there can be removed here
        copy.mkdir(parents=True, exist_ok=True)
        for entry in origin.iterdir():
            link(entry, copy / entry.name)
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin.resolve(), copy)
    except OSError:
        shutil.copyfile(origin, copy)


def fetch(url: str, target: Path, access: str) -> None:
    """Download with DVC, which knows many kinds of storage and their credentials."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "dvc", "get-url", url, str(target)]
    if subprocess.run(command).returncode:
        raise UserError(f"DVC could not get {url} (it says why above); {access}")


def check(path: Path, md5: str) -> None:
    """Raise UserError unless a file has the stated md5."""
    if path.is_dir():
        raise UserError(f"archives.md5 has {path.name}, a folder: only files are checked")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise UserError(f"{path.name}: its md5 is {found}, not the stated {md5}: get it anew")


if __name__ == "__main__":
    console.run(main)
