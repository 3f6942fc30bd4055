"""Stage raw: a dataset's archives -> data/raw/<dataset>/.

They are synthetic (source "synthetic"), linked or copied from a folder, or fetched from a URL.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiment import console, params
from skeletons import synthetic, zip_path
from skeletons.reading import archive
from skeletons.sensors import LAYOUTS

RAW = Path("data/raw")


def main(dataset: str) -> str:
    p = params.read()
    if dataset not in p["sources"] or dataset not in p["datasets"]:
        raise ValueError("params.yaml: name the dataset under `sources` and under `datasets`")
    source, entry = p["sources"][dataset], p["datasets"][dataset]
    target = RAW / dataset
    partial = RAW / f".{dataset}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if source == "synthetic":
            generate(entry, p["synthetic"], partial)
        else:
            bring(entry, source, partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return f"{target}: {size / 1e6:.1f} MB from {source}"


def generate(entry: dict[str, Any], settings: dict[str, Any], folder: Path) -> None:
    """Write synthetic archives under the names of the dataset's own into a folder."""
    form, layout = synthetic.load(entry["format"]), LAYOUTS[entry["layout"]]
    numbers = {**settings, **(entry["synthetic"] or {})}
    made = form.generate(layout, **numbers, progress=console.bar("writing", " files"))
    form.write(folder, layout, made, **entry["archives"])


def bring(entry: dict[str, Any], source: str, folder: Path) -> None:
    """Link, copy or fetch a dataset's archives from a folder or URL into another; check them."""
    stated = [name for names in entry["archives"].values() for name in names]
    archives = sorted({str(zip_path.split(name)[0]) for name in stated})
    for name in archives:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"params.yaml: archive {name} must be a path inside the source")
    for name in entry["md5"]:
        if name not in archives:
            raise ValueError(f"params.yaml: md5 of {name}, which is not one of the archives")
    access = f"get it through {entry['access']}" if entry["access"] else "ask its owner for it"
    if "://" in source:
        for name in archives:
            fetch(f"{source.rstrip('/')}/{name}", folder / name, access)
    else:
        # DVC may run this in a copy of the project, which does not hold the archives
        place = Path(os.environ.get("DVC_ROOT", ""), Path(source).expanduser())
        missing = [name for name in archives if not (place / name).exists()]
        if missing:
            raise ValueError(
                f"{place} lacks {', '.join(missing)}: {access} and put it there under this name, "
                "or name another folder under `sources` in params.yaml"
            )
        for name in archives:
            link(place / name, folder / name)
    for name, md5 in entry["md5"].items():
        check(folder / name, md5)
    for name in (*entry["archives"]["skeletons"], *entry["archives"]["labels"]):
        archive.check(folder / name)


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
        raise ValueError(f"DVC could not get {url} (it says why above); {access}")


def check(path: Path, md5: str) -> None:
    """Raise ValueError unless a file has the stated md5."""
    if path.is_dir():
        raise ValueError(f"params.yaml: md5 of {path.name}, a folder: only files are checked")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise ValueError(
            f"{path.name}: its md5 is {found}, not {md5} as params.yaml says: get it anew"
        )


if __name__ == "__main__":
    console.run(main)
