"""How right and how fast is this project on a GPU? One command for a bare machine.

    python3 bench/gpu.py tests speed --out report --released <checkout of the released code>

It needs PyTorch, and the packages that PyTorch's own machines lack as wheels in `.wheels`
(`make wheels` fetches them where there is a network); nothing is installed but into a temporary
folder. Parts:

tests    tests/test_gpu.py
speed    clips a second of pretraining, ours and the released code's; embedding; linear evaluation
profile  the kernels that take the most time of a step
nwucla   presets/nwucla-paper.yaml, joint stream, seeds 0, 1, 2 as time allows

Each configuration has a process: compilers work side by side, measurements take turns. A step is
the whole one, with views, optimiser, momentum update and queues, timed on the device after a
warm-up; the figure is the median. `two` has two bodies in every clip, `ntu` in 3 of 16, about the
share of NTU-60's actions. The report is `gpu.json` and `gpu.txt` in the folder `--out`.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
TESTS = 240.0  # seconds that the tests may take
AHEAD = 3  # configurations of `OURS` that are compiled at once
# Precision, compiled or not, share of clips with two bodies, batch. As the stages do, all ask for
# deterministic algorithms but those that are `free`.
OURS = [
    ("bf16", "compiled", "ntu", 64),
    ("tf32", "compiled", "ntu", 64),
    ("bf16", "compiled", "two", 64),
    ("bf16", "compiled-free", "ntu", 64),
    ("fp32", "eager", "two", 64),
    ("tf32", "eager", "two", 64),
    ("bf16", "eager", "two", 64),
    ("fp32", "compiled", "ntu", 64),
    ("bf16", "compiled", "ntu", 256),
]
LINKED = (
    "datasets",
    "dvc.yaml",
    "errors.py",
    "stages",
    "experiment",
    "learning",
    "model",
    "skeletons",
)
NWUCLA = [
    ("raw", "nwucla"),
    ("prepare", "nwucla"),
    *((stage, "nwucla-xview") for stage in ("pretrain", "embed", "linear", "retrieval")),
]
RELEASED = [("as-trained", 64), ("tf32", 64), ("as-trained", 256)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="+", choices=("tests", "speed", "profile", "nwucla"))
    parser.add_argument("--out", type=Path, default=Path("data/gpu"), help="folder of the report")
    parser.add_argument("--released", type=Path, help="checkout of the released code")
    parser.add_argument("--nwucla", type=Path, help="folder with all_sqe.zip of NW-UCLA")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which all is ended")
    given = parser.parse_args()
    if "nwucla" in given.parts and not given.nwucla:
        parser.error("nwucla needs --nwucla, the folder with all_sqe.zip")
    given.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        report = Report(given.out)
        environment = prepared(Path(folder))
        if "tests" in given.parts:
            seconds = min(TESTS, deadline - time.monotonic())
            report.text("tests", tests(environment, seconds))
        measured = {"speed", "profile"} & set(given.parts)
        workers = [start(environment, "ours", *one) for one in OURS[:AHEAD] if measured]
        if "speed" in given.parts and given.released:
            for how, batch in RELEASED[:2]:
                checkout = given.released.resolve()
                report.collect([start(environment, "released", checkout, how, batch)], deadline)
        report.collect(workers, deadline)
        if "speed" in given.parts:
            report.collect([start(environment, "frozen")], deadline)
            for one in OURS[AHEAD:]:
                report.collect([start(environment, "ours", *one)], deadline)
            if given.released:
                checkout = given.released.resolve()
                report.collect([start(environment, "released", checkout, *RELEASED[2])], deadline)
        if "nwucla" in given.parts:
            nwucla(environment, given.nwucla.resolve(), Path(folder), report, deadline)
    print(report.table())


def prepared(folder: Path) -> dict[str, str]:
    """The environment of the processes: the carried wheels, the project, a cache of kernels."""
    site = folder / "site"
    wheels = sorted((ROOT / ".wheels").glob("*.whl"))
    if wheels:
        options = ["--no-index", "--no-deps", "--no-compile", "--target", str(site)]
        pip = [sys.executable, "-m", "pip", "install", "-q", *options, *map(str, wheels)]
        subprocess.run(pip, check=True)
    return {
        **os.environ,
        "PYTHONPATH": f"{site}:{ROOT}",
        "BENCH_FOLDER": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "kernels"),
        "TORCHINDUCTOR_COMPILE_THREADS": "4",
        "OMP_NUM_THREADS": "2",
    }


def start(environment: dict[str, str], *arguments: object) -> "Worker":
    return Worker(environment, [str(argument) for argument in arguments])


class Worker:
    """A process of `bench.gpu_worker`."""

    def __init__(self, environment: dict[str, str], arguments: list[str]) -> None:
        self.name = " ".join(a for a in arguments if "/" not in a)
        self.log = Path(environment["BENCH_FOLDER"], f"{self.name}.log".replace(" ", "-"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.gpu_worker", *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            cwd=ROOT,
            env=environment,
            text=True,
        )

    def results(self, deadline: float) -> list[dict[str, Any]]:
        """What it printed by the deadline, or how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        self.process.kill()
        out, _ = self.process.communicate()
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        if self.process.returncode:
            last = self.log.read_text()[-1500:].strip()
            found.append({"failed": self.process.returncode, "why": last})
        return [{"of": self.name, **one} for one in found]


class Report:
    """What was measured: written after every measurement, so that an end by force loses little."""

    def __init__(self, out: Path) -> None:
        self.out, self.measured = out, [machine()]
        self.done: set[str] = set()
        self.texts: list[str] = []

    def text(self, name: str, text: str) -> None:
        (self.out / f"{name}.txt").write_text(text)
        self.texts.append(f"{name}: {text.strip().splitlines()[-1] if text.strip() else 'nothing'}")
        self.write()

    def collect(self, workers: Iterable[Worker], deadline: float) -> None:
        for worker in workers:
            if worker.name not in self.done:
                self.done.add(worker.name)
                self.measured += worker.results(deadline)
                self.write()

    def write(self) -> None:
        (self.out / "gpu.json").write_text(json.dumps(self.measured, indent=1))
        (self.out / "gpu.txt").write_text(self.table())

    def table(self) -> str:
        lines = [json.dumps(self.measured[0]), *self.texts]
        for row in self.measured[1:]:
            kernels = row.get("kernels", [])
            shown = {key: value for key, value in row.items() if key not in ("of", "kernels")}
            lines.append(f"{row['of']:36} {json.dumps(shown)[:900]}")
            lines += [
                f"    {ms:7.3f} ms {count:6.1f} x {name[:110]}" for name, ms, count in kernels
            ]
        return "\n".join(lines) + "\n"


def machine() -> dict[str, Any]:
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError):
        card += f", driver {subprocess.run(query, capture_output=True, text=True).stdout.strip()}"
    python = ".".join(map(str, sys.version_info[:3]))
    return {"card": card, "torch": torch.__version__, "python": python, "cores": os.cpu_count()}


def tests(environment: dict[str, str], seconds: float) -> str:
    """What pytest printed, a line a test, up to when it ended or was ended."""
    command = [sys.executable, "-m", "pytest", "-vv", "--tb=short", "-n", "8", "--show-capture=no"]
    command += ["-p", "no:cacheprovider", "--durations=8", "tests/test_gpu.py"]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            out.write(f"\nended after {seconds:.0f} s\n")
        out.seek(0)
        return out.read()


def nwucla(
    environment: dict[str, str], archives: Path, folder: Path, report: Report, deadline: float
) -> None:
    """The stages by hand, since the machine has no DVC; `LINKED` is what they read."""
    for seed in range(3):
        project = folder / f"nwucla-{seed}"
        (project / "metrics").mkdir(parents=True)
        for name in LINKED:
            (project / name).symlink_to(ROOT / name)
        preset = (ROOT / "presets/nwucla-paper.yaml").read_text()
        preset = preset.replace("nwucla: archives", f"nwucla: {archives}")
        (project / "params.yaml").write_text(preset.replace("seed: 0 ", f"seed: {seed} ", 1))
        began = time.monotonic()
        for stage, key in NWUCLA:
            command = [sys.executable, "-m", f"stages.{stage}", key]
            try:
                done = subprocess.run(
                    command,
                    cwd=project,
                    env={**environment, "PYTHONPATH": environment["PYTHONPATH"] + f":{project}"},
                    capture_output=True,
                    text=True,
                    timeout=max(deadline - time.monotonic(), 0.1),
                )
            except subprocess.TimeoutExpired:
                report.text(f"nwucla-{seed}", f"ended in {stage}: no time left")
                return
            if done.returncode:
                report.text(f"nwucla-{seed}", f"{stage}: {done.stderr[-800:]}")
                return
            report.text(
                f"nwucla-{seed}-{stage}", f"{done.stdout} {time.monotonic() - began:.0f} s so far"
            )
        for path in sorted(project.glob("metrics/*/*.json")):
            text = " ".join(path.read_text().split())
            report.text(f"nwucla-{seed}-{path.parent.name}", f"{path.name} {text[:600]}")


if __name__ == "__main__":
    main()
