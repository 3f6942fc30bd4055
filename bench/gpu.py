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
import fcntl
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
TESTS = 240.0  # seconds that the tests may take
AHEAD = 3  # configurations of `OURS` that are compiled at once
STEPS, WARM = 48, 16  # steps of a measurement, and those of them that do not count
CLIPS_AN_EPOCH, EPOCHS = 40_091, 451  # ntu60-xsub
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
    """A process of this file that prints JSON lines."""

    def __init__(self, environment: dict[str, str], arguments: list[str]) -> None:
        self.name = " ".join(a for a in arguments if "/" not in a)
        self.log = Path(environment["BENCH_FOLDER"], f"{self.name}.log".replace(" ", "-"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.gpu", "worker", *arguments],
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


@contextlib.contextmanager
def measuring(folder: Path) -> Iterator[None]:
    """Within it no other process measures."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ---- In a process of its own ---------------------------------------------------------------------


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


class Steps:
    """Times the steps of a run that asks it for their numbers, as `pretrain` does."""

    def __init__(self, profiled: int = 4) -> None:
        self.profiled = profiled
        self.kernels: list[tuple[str, float, float]] = []
        self.began = time.perf_counter()

    def __call__(self, steps: Iterable[int]) -> Iterator[int]:
        events, host = [], 0.0
        with contextlib.ExitStack() as stack:
            for number, step in enumerate(steps):
                if number == 0:  # a number is asked for when its step is over
                    self.first = time.perf_counter() - self.began
                if number == WARM:
                    torch.cuda.synchronize()
                    stack.enter_context(measuring(Path(os.environ["BENCH_FOLDER"])))
                    host = time.perf_counter()
                if WARM <= number <= STEPS:
                    events.append(torch.cuda.Event(enable_timing=True))
                    events[-1].record()
                if number == STEPS:
                    self.host = 1e3 * (time.perf_counter() - host) / (STEPS - WARM)
                    torch.cuda.synchronize()
                    self.memory = torch.cuda.max_memory_reserved() / 1e9
                    profile = torch.profiler.profile(
                        activities=[torch.profiler.ProfilerActivity.CUDA]
                    )
                    stack.enter_context(profile)
                yield step
            torch.cuda.synchronize()
        self.step = statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(events))
        rows = [
            (row.key, row.self_device_time_total / 1e3 / self.profiled, row.count / self.profiled)
            for row in profile.key_averages()
        ]
        self.kernels = sorted(rows, key=lambda row: -row[1])


def ours(precision: str, compiled: str, share: str, batch: int) -> None:
    import numpy as np

    from learning.augment import Augmentations
    from learning.batches import batches
    from learning.contrast import SCDNet
    from learning.loop import deterministic
    from learning.pretrain import pretrain
    from learning.schedule import SGD
    from model.encoder import Encoder, Projector
    from skeletons.sensors import KINECT_V2

    if not compiled.endswith("free"):
        deterministic(torch.device("cuda"))
    torch.manual_seed(0)
    network = SCDNet(Projector(Encoder(parents=KINECT_V2.parents))).cuda()
    timed = Steps()
    count = batch * (STEPS + 1 + timed.profiled)
    pretrain(
        network,
        clips(share),
        batches(np.arange(count) % CLIPS, batch=batch, seed=0, drop_last=True, shuffle=False),
        stream="joint",
        augmentations=Augmentations(),
        sgd=SGD(epochs=1, lr=0.01, momentum=0.9, weight_decay=1e-4),
        precision=precision,
        compile=compiled.startswith("compiled"),
        seed=0,
        fill_queue=False,
        progress=timed,
    )
    say(
        ms=round(timed.step, 2),
        clips_a_second=round(1e3 * batch / timed.step),
        hours_of_451_epochs=round(CLIPS_AN_EPOCH * EPOCHS / batch * timed.step / 3.6e6, 2),
        host_ms=round(timed.host, 2),
        GB=round(timed.memory, 1),
        first_step_s=round(timed.first, 1),
        kernels_ms=round(sum(ms for _, ms, _ in timed.kernels), 2),
        launches=round(sum(count for _, _, count in timed.kernels)),
        kernels=[(name, round(ms, 3), count) for name, ms, count in timed.kernels[:45]],
    )


CLIPS = 4096


def clips(share: str) -> Any:
    """Random clips of 100 frames; of 16 in a row all, or 3, have a second body."""
    from learning.clips import DeviceClips
    from skeletons.sensors import KINECT_V2

    frames = torch.randn(CLIPS, 100, 2, 25, 3, device="cuda")
    paired = (torch.arange(CLIPS) % 16 < 3) | (share == "two")
    frames[~paired.cuda(), :, 1] = 0
    return DeviceClips(
        frames=frames.flatten(0, 1),
        offsets=torch.arange(0, 100 * CLIPS + 1, 100, device="cuda"),
        labels=torch.zeros(CLIPS, dtype=torch.int64, device="cuda"),
        classes=60,
        layout=KINECT_V2,
        device=torch.device("cuda"),
        paired=paired,
    )


def released(checkout: str, how: str, batch: int) -> None:
    """`as-trained` leaves PyTorch's settings: TF32 in convolutions, not in matrix products."""
    sys.path.insert(0, checkout)
    from scd.builder import SCD_Net

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = how == "tf32"
    size = {"hidden_size": 2048, "num_head": 8, "num_layer": 1, "num_class": 128}
    network = SCD_Net(size, 128, 8192, 0.999, 0.2).cuda()
    entropy = torch.nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    views = torch.randn(2, batch, 3, 64, 25, 2, device="cuda")

    def step() -> None:
        out = network(*views)
        loss = sum(entropy(a, b) for a, b in zip(out[:4], out[4:], strict=True))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    ms, memory = timed_calls(step, 12)
    say(ms=round(ms, 2), clips_a_second=round(1e3 * batch / ms), GB=round(memory, 1))


def timed_calls(function: Callable[[], object], calls: int) -> tuple[float, float]:
    """The median of a call (ms) after some that do not count, and the peak of memory (GB)."""
    with measuring(Path(os.environ["BENCH_FOLDER"])):
        for _ in range(3):
            function()
        torch.cuda.synchronize()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
        for event in events:
            if event is not events[0]:
                function()
            event.record()
        torch.cuda.synchronize()
        each = [a.elapsed_time(b) for a, b in itertools.pairwise(events)]
        return statistics.median(each), torch.cuda.max_memory_reserved() / 1e9


def frozen() -> None:
    """The ceilings of the card; features of 57,000 clips and a linear probe of them."""
    import numpy as np

    from learning.augment import Augmentations
    from learning.features import extract
    from learning.graphs import Replayed
    from learning.precision import computing
    from learning.probes import Labelled, linear_probe
    from learning.views import training_view
    from model.encoder import Encoder
    from model.folding import folded
    from skeletons.sensors import KINECT_V2

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    product, _ = timed_calls(lambda: a @ a, 20)
    x, y = torch.empty(2, 2**30, dtype=torch.uint8, device="cuda")
    copy, _ = timed_calls(lambda: x.copy_(y), 20)
    say(TFLOPs_bf16=round(2 * 8192**3 / product / 1e9), TBs=round(2**31 / copy / 1e9, 2))
    computing(torch.device("cuda"), "fp32")
    of, number = clips("ntu"), torch.arange(2, device="cuda").repeat_interleave(64)

    def views(indices: torch.Tensor) -> dict[str, torch.Tensor]:
        settings: dict[str, Any] = {"size": 64, "stream": "joint", "seed": 0, "epoch": 0}
        made = training_view(
            of, indices.repeat(2), augmentations=Augmentations(), view=number, **settings
        )
        return {"x": made.x}

    replayed, indices = Replayed(views), torch.arange(64, device="cuda")
    for _ in range(4):
        replayed(indices)
    say(both_views_ms=round(timed_calls(lambda: replayed(indices), 20)[0], 3))
    encoder = folded(Encoder(parents=KINECT_V2.parents).cuda())
    for precision in ("bf16", "fp32"):
        count = 57_000 if precision == "bf16" else 5_700
        with measuring(Path(os.environ["BENCH_FOLDER"])):
            began = time.perf_counter()
            features = extract(
                encoder.represent,
                of,
                np.arange(count) % CLIPS,
                size=64,
                stream="joint",
                centre_crop=0.95,
                batch=256,
                precision=precision,
            )
            seconds = time.perf_counter() - began
        say(embed=precision, clips=count, seconds=round(seconds, 2))
        if precision == "bf16":
            some = Labelled(features, torch.arange(count) % 60)
            with measuring(Path(os.environ["BENCH_FOLDER"])):
                began = time.perf_counter()
                train, test = (
                    Labelled(some.features[part], some.labels[part])
                    for part in (slice(CLIPS_AN_EPOCH), slice(CLIPS_AN_EPOCH, None))
                )
                linear_probe(
                    train,
                    test,
                    classes=60,
                    epochs=80,
                    lr=2.0,
                    momentum=0.9,
                    batch=1024,
                    milestones=[50, 70],
                    seed=0,
                    device="cuda",
                )
                say(linear_80_epochs_s=round(time.perf_counter() - began, 2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", "ours", precision, compiled, share, batch]:
            ours(precision, compiled, share, int(batch))
        case ["worker", "released", checkout, how, batch]:
            released(checkout, how, int(batch))
        case ["worker", "frozen"]:
            frozen()
        case _:
            main()
