"""Damaged files of every format: a reader gives clips or says in a line what is wrong, soon and in
little memory. `make fuzz` tries many more of them.
"""

import contextlib
import random
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import layout_of, person, specimen

from errors import UserError, printable
from model.network import weights
from skeletons import formats
from skeletons.archives.recordings import Broken, Source
from skeletons.preparing.job import Job
from skeletons.preparing.make_clips import make_clips

EXTREME = (b"\0", b"\xff", b"\x7f", b"\x80")
LITTLE = 16 << 20  # bytes, of files of some kilobytes
FUZZ = settings(
    deadline=5_000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def packed(job: Job, suffix: str, method: int) -> Job:
    """The dataset with its one folder as a zip."""
    (folder,) = job.skeletons
    path = folder.with_suffix(suffix)
    with zipfile.ZipFile(path, "w", method) as file:
        for one in folder.iterdir():
            file.write(one, f"in\\{one.name}" if suffix == ".zip" else one.name)
    for one in folder.iterdir():
        one.unlink()
    path.rename(folder / path.name)
    return replace(job, skeletons=[folder / path.name])


def arrays_in_npz(job: Job) -> Job:
    (folder,) = job.skeletons
    np.savez(folder / "all.npz", a=np.load(folder / "a.npy"))
    (folder / "a.npy").unlink()
    return job


DATASETS = {name: (name, lambda job: job) for name in formats.NAMES} | {
    "zip, deflated": ("ntu", lambda job: packed(job, ".zip", zipfile.ZIP_DEFLATED)),
    "zip, stored": ("arrays", lambda job: packed(job, ".zip", zipfile.ZIP_STORED)),
    "npz": ("arrays", arrays_in_npz),
}


def damage(data: bytes, random_: random.Random) -> bytes:
    """The bytes with some of them changed, cut out, put in, repeated or set to extremes."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 2, 4))):
        start = random_.randrange(len(changed) + 1)
        stop = min(start + random_.choice((1, 2, 4, 8, 40, 400)), len(changed))
        block = changed[start:stop]
        changed[start:stop] = random_.choice(
            (
                random_.randbytes(len(block)),
                random_.choice(EXTREME) * len(block),
                bytes(byte ^ 1 << random_.randrange(8) for byte in block),
                b"",
                block * random_.choice((2, 3, 50)),
                random_.randbytes(random_.randrange(9)) + block,
            )
        )
    return bytes(changed[: random_.randrange(len(changed) + 1)] if stop % 9 == 0 else changed)


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> dict[str, tuple[Job, dict[Path, bytes]]]:
    """Each dataset of one short clip, and its files."""
    found = {}
    for name, (format, change) in DATASETS.items():
        layout = layout_of(format)
        folder = tmp_path_factory.mktemp("fuzz") / "raw"
        job = change(specimen(format, folder, person(0, 2, layout.bodies, layout.joints)))
        found[name] = job, {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return found


@pytest.mark.parametrize("name", DATASETS)
@FUZZ
@given(random_=st.randoms())
def test_a_damaged_file_is_clips_or_said_in_a_line(datasets, name, random_):
    job, files = datasets[name]
    path = random_.choice(sorted(files))
    path.write_bytes(damage(files[path], random_))
    source = Source(job.skeletons, job.recipe.classes, job.labels)
    try:
        with little_memory():
            recordings, found = formats.plan(job.recipe.format, source)
            for recording in recordings[:9]:
                found += [
                    made for made in make_clips(recording, job.recipe) if isinstance(made, Broken)
                ]
        said = [part for entry in found for part in (entry.clip, entry.file, entry.reason)]
    except UserError as error:
        said = [str(error)]
    finally:
        path.write_bytes(files[path])
    for text in said:
        assert text == printable(text)
        assert len(text) < 1_000


@FUZZ
@given(random_=st.randoms())
def test_damaged_weights_are_weights_or_said_in_a_line(tmp_path, random_):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(3, 4), "b": [1, "c"]}, path)
    path.write_bytes(damage(path.read_bytes(), random_))
    with little_memory(), contextlib.suppress(UserError):
        weights.read(path)
