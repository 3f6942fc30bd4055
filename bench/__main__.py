"""Measure this project, and beside it the released code or another checkout of the project.

    [RELEASED=<checkout>] [AGAINST=<checkout>] [ROUNDS=2] python -m bench PART...

    prepare[=CLIPS]    stage `prepare` of that many clips (10000), against inflating alone and the
                       released generator; memory and disk
    step               a training step: on a CPU of the default's and of presets/real.yaml's network
                       on one thread, and of the paper's in batches of 16; on a GPU of the paper's
    nwucla=FOLDER      presets/nwucla-paper.yaml's joint stream by three seeds; all_sqe.zip's folder
    run=COMMAND        any command, as 'dvc status', in the folder of each checkout

RELEASED is a checkout of the released code (github.com/cong-wu/SCD-Net), AGAINST one of this
project, of any commit: each is measured after ours, ROUNDS times (1), and the best is compared.
PARTS=1 lists what takes the time of a step. Nothing here is a test.

CPU time is the fairest measure on a machine that is shared. Ours keeps freed memory;
MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=2147483647 have the released code keep it, too.
"""

import copy
import functools
import itertools
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench import projects
from bench.projects import ROOT
from bench.steps import CUDA, STEPS

REAL, EDGE = ROOT.parent / "shared/real/ntu", ROOT / "tests/golden/edge"
RELEASED, AGAINST = (os.environ.get(name) for name in ("RELEASED", "AGAINST"))
RELEASED = RELEASED and os.path.abspath(RELEASED)  # of the released code
CHECKOUTS = {"ours": ROOT} | ({"against": Path(AGAINST).resolve()} if AGAINST else {})
ROUNDS = range(int(os.environ.get("ROUNDS", "1")))
DISTINCT = 2000  # clips of an archive whose data differ
RELEASED_CLIPS = 400
PADDED = 2 * 300 * 2 * 25 * 3 * 4  # bytes a clip in the released code's arrays, for two protocols
CLIPS = 1024 if CUDA else 256  # random ones to train on, of 100 frames
say = functools.partial(print, flush=True)
TIMES = ("s", "cpu_s", "ms", "cpu_ms")


def main() -> None:
    parts: list[Callable[..., None]] = [prepare, step, nwucla, run]
    named = {part.__name__: part for part in parts}
    asked = [argument.partition("=")[::2] for argument in sys.argv[1:]]
    if asked == [("--help", "")]:
        return print(__doc__)
    if not asked or not {name for name, _ in asked} <= named.keys():
        sys.exit(__doc__)
    machine = torch.cuda.get_device_name() if CUDA else f"{os.cpu_count()} cores"
    say(f"{machine}, torch {torch.__version__}, Python {platform.python_version()}")
    for name, value in asked:
        with tempfile.TemporaryDirectory() as folder:
            named[name](Path(folder), *filter(None, [value]))


class Best:
    """The least times under a title by each: ours, another checkout, the released code."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, Any]] = {}

    def add(self, title: str, by: str, figures: dict[str, Any]) -> None:
        parts = figures.pop("parts", [])
        say(f"{title}, {by}: {json.dumps(figures)}")
        for name, ms, count in parts if "PARTS" in os.environ else []:
            say(f"    {ms:8.3f} ms {count:7.1f} x {name}")
        best = self.found.setdefault((title, by), {})
        best |= {key: min(figures[key], best.get(key, np.inf)) for key in TIMES if key in figures}

    def compare(self) -> None:
        """Print how many times as fast ours is as each of the others."""
        for (title, by), theirs in self.found.items():
            ours = self.found[title, "ours"]
            ratios = [f"{theirs[key] / ours[key]:.2f} x ({key})" for key in theirs if key in ours]
            if by != "ours" and ratios:
                say(f"{title}: ours is {', '.join(ratios)} as fast as {by}")


def prepare(folder: Path, clips: str = "10000") -> None:
    """Stage `prepare` by 2 workers: copies of real clips, or of tests/golden/edge, as NTU's."""
    count, best = int(clips), Best()
    archive = archive_of(folder / "ntu.zip", count)
    start = time.process_time()
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist()[:DISTINCT]:
            file.read(name)
    inflating = (time.process_time() - start) * max(1, count / DISTINCT)  # by zlib
    changes = {"sources": {"mine": str(folder)}, "prepare": {"workers": 2}}
    mine = {"format": "ntu", "layout": "kinect-v2", "archive": archive.name}
    for _, (by, checkout) in itertools.product(ROUNDS, CHECKOUTS.items()):
        made = projects.make(folder / by, checkout, "default", changes, **mine)
        projects.stage(made, "raw", "mine")
        best.add("prepare", by, projects.stage(made, "prepare", "mine"))
    ours, store = best.found["prepare", "ours"], folder / "ours/data/mine.zarr"
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / count
    say(f"{count / ours['s']:.0f} clips/s, {ours['cpu_s'] / inflating:.2f} x inflating's CPU time")
    say(f"{size / 1e3:.1f} kB a clip on disk, 1/{PADDED / size:.1f} of the released arrays")
    if RELEASED:
        part = min(RELEASED_CLIPS, count)
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder / "unpacked", file.namelist()[:part])
        command = [sys.executable, "ntu_gendata.py", "--data_path", f"{folder}/unpacked/clips"]
        command += ["--out_folder", f"{folder}/released"]
        found = projects.measure(command, Path(RELEASED, "data_gen"), dict(os.environ))
        say(f"the released generator: {found['s']} s for both protocols of {part}; of all clips:")
        scaled = {key: round(found[key] * count / part, 3) for key in ("s", "cpu_s")}
        best.add("prepare", "released", scaled)
    best.compare()


def archive_of(path: Path, clips: int) -> Path:
    """A zip of clips of at least 50 frames: copies with other last digits, so that they do not
    compress together; beyond `DISTINCT` the same data under other names.
    """
    texts = []
    for file in sorted((REAL if REAL.is_dir() else EDGE).glob("*.skeleton")):
        frames, _, rest = file.read_bytes().partition(b"\n")
        times = -(-50 // int(frames))
        texts.append(b"%d\n" % (int(frames) * times) + rest * times)
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(min(clips, DISTINCT)):
            text = np.frombuffer(texts[i % len(texts)], np.uint8).copy()
            digit = (text >= ord("0")) & (text <= ord("9"))
            # the fifth of five digits in a row, followed by a space
            five = np.lib.stride_tricks.sliding_window_view(digit[:-1], 5).all(1)
            last = np.flatnonzero(five & (text[5:] == ord(" "))) + 4
            text[last] = random.integers(ord("0"), ord("9") + 1, len(last))
            archive.writestr(clip_name(i), text.tobytes())
        for i in range(DISTINCT, clips):  # of which zipfile reads none, but `prepare` does
            archive.filelist.append(copy.copy(archive.filelist[i % DISTINCT]))
            archive.filelist[-1].filename = clip_name(i)
    return path


def clip_name(i: int) -> str:
    """The name of the i-th of 120 actions x 40 subjects x 3 cameras x 32 setups."""
    action, subject, camera, setup = i % 120, i // 120 % 40, i // 4800 % 3, i // 14400
    return f"clips/S{setup + 1:03}C{camera + 1:03}P{subject + 1:03}R001A{action + 1:03}.skeleton"


class Row(NamedTuple):
    """A configuration. Of 16 clips in a row `pairs` have a second body: 3 is about NTU-60's share;
    None: the sensor sees one body. `threads` are all if 0.
    """

    preset: str
    precision: str
    pairs: int | None
    batch: int
    compile: bool = False
    threads: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self._asdict().items() if value)


PAPER = "paper"
ROWS = [
    Row("default", "fp32", 3, 64, threads=1),
    Row("real", "fp32", None, 32, threads=1),
    *(Row(PAPER, *how, 16) for how in (("fp32", 16), ("fp32", 3), ("bf16", 3))),
]
if CUDA:
    compiled = ("bf16", 3, 64), ("tf32", 3, 64), ("bf16", 16, 64), ("fp32", 3, 64), ("bf16", 3, 256)
    ROWS = [Row(PAPER, *how, compile=True) for how in compiled]
    ROWS += [Row(PAPER, precision, 16, 64) for precision in ("fp32", "tf32", "bf16")]


def step(folder: Path) -> None:
    """The steps of `ROWS` and of the released code; what is compiled is compiled side by side."""
    best, cases = Best(), list(itertools.product(ROWS, CHECKOUTS))
    commands = [(project(folder, *case), ["ours", "mine"], case[0].threads) for case in cases]
    for _ in ROUNDS:
        with ThreadPoolExecutor(3 if CUDA else 1) as pool:
            found = pool.map(lambda command: timed(*command), commands)
            for (row, by), figures in zip(cases, found, strict=True):
                best.add(str(row), by, figures)
        for batch in sorted({row.batch for row in ROWS if row.preset == PAPER} if RELEASED else {}):
            theirs = timed(folder, ["released", RELEASED or "", str(batch)])
            for row in (row for row in ROWS if (row.preset, row.batch) == (PAPER, batch)):
                best.add(str(row), "released", dict(theirs))
    best.compare()


def project(folder: Path, row: Row, by: str) -> Path:
    """A project of a checkout with prepared random clips and a run on them."""
    clips = random_clips(folder / f"clips-{row.pairs}", row.pairs)
    training = {name: getattr(row, name) for name in ("precision", "compile", "batch")}
    training |= {"queue_start": "random", "warmup": 0, "milestones": [], "probe": {"every": None}}
    training["epochs"] = 1 + STEPS // (CLIPS // row.batch)
    runs = {"mine": {"dataset": "mine", "protocol": "all", "stream": "joint"}}
    changes = {"sources": {"mine": str(clips)}, "runs": runs, "pretrain": training}
    layout, name = f"kinect-v{1 if row.pairs is None else 2}", f"{by}-{ROWS.index(row)}"
    mine = {"format": "arrays", "layout": layout, "archive": "."}
    made = projects.make(folder / name, CHECKOUTS[by], row.preset, changes, **mine)
    projects.stage(made, "raw", "mine")
    projects.stage(made, "prepare", "mine")
    return made


def random_clips(folder: Path, pairs: int | None) -> Path:
    """Random clips in the form of format `arrays`."""
    if not folder.exists():
        folder.mkdir()
        body = (1, 20, 3) if pairs is None else (2, 25, 3)
        frames = np.random.default_rng(0).standard_normal((CLIPS, 100, *body), np.float32)
        frames[np.arange(CLIPS) % 16 >= (pairs or 0), :, 1:] = 0
        np.savez(folder / "clips.npz", **{f"{i:04}": clip for i, clip in enumerate(frames)})
        lines = "".join(f"{i:04},0\n" for i in range(CLIPS))
        (folder / "clips.csv").write_text(f"file,label\n{lines}")
    return folder


def timed(folder: Path, arguments: list[str], threads: int = 0) -> dict[str, Any]:
    """Figures by `bench.steps` of a step in a project, or the end of why there are none."""
    env = projects.code_of(folder) | {"BENCH_LOCK": f"/tmp/bench-{os.getpid()}.lock"}
    env |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [sys.executable, f"{ROOT}/bench/steps.py", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    failed = {"failed": done.returncode, "why": done.stderr[-500:]}
    return failed if done.returncode else json.loads(done.stdout.splitlines()[-1])


def nwucla(folder: Path, archives: str) -> None:
    """The stages one by one, since a machine with a GPU may have no DVC."""
    for seed in range(3):
        runs = {"run": {"dataset": "nwucla", "protocol": "xview", "stream": "joint"}}
        changes = {"seed": seed, "sources": {"nwucla": os.path.abspath(archives)}, "runs": runs}
        made = projects.make(folder / str(seed), ROOT, "nwucla-paper", changes)
        for stage in ("raw", "prepare", "pretrain", "embed", "linear", "retrieval"):
            key = "nwucla" if stage in ("raw", "prepare") else "run"
            say(f"seed {seed}, {stage}: {projects.stage(made, stage, key)}")
        for file in sorted(made.glob("metrics/*/run.json")):
            say(f"  {file.parent.name}: {' '.join(file.read_text().split())[:600]}")


def run(folder: Path, command: str) -> None:
    """A command in the folder of each checkout."""
    best = Best()
    for _, (by, checkout) in itertools.product(ROUNDS, CHECKOUTS.items()):
        best.add(command, by, projects.measure(shlex.split(command), checkout, dict(os.environ)))
    best.compare()


if __name__ == "__main__":
    main()
