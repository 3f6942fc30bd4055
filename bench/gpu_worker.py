"""One configuration of `bench.gpu` in a process of its own: prints its figures as JSON lines."""

import contextlib
import fcntl
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

STEPS, WARM = 48, 16  # steps of a measurement, and those of them that do not count
CLIPS_AN_EPOCH, EPOCHS = 40_091, 451  # ntu60-xsub
CLIPS = 4096  # random ones, of 100 frames


@contextlib.contextmanager
def measuring(folder: Path) -> Iterator[None]:
    """Within it no other process measures."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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

    from learning.training.augment import Augmentations
    from learning.training.device_clips import Task
    from learning.training.loop import Recipe
    from learning.training.pretrain import SCDNet, pretrain
    from learning.training.settings import SGD
    from machine.devices.reproducibility import deterministic
    from model.network.encoder import Encoder, Projector, compile_in_training
    from skeletons.sensors import KINECT_V2

    if not compiled.endswith("free"):
        deterministic(torch.device("cuda"))
    torch.manual_seed(0)
    network = SCDNet(Projector(Encoder(parents=KINECT_V2.parents))).cuda()
    if compiled.startswith("compiled"):
        compile_in_training(network.query.encoder, network.key.encoder)
    timed = Steps()
    count = batch * (STEPS + 1 + timed.profiled)
    pretrain(
        network,
        Task(clips(share), np.arange(count) % CLIPS, np.arange(0), stream="joint"),
        Recipe(
            sgd=SGD(epochs=1, lr=0.01, momentum=0.9, weight_decay=1e-4),
            batch=batch,
            seed=0,
            augmentations=Augmentations(),
            precision=precision,
        ),
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


def clips(share: str) -> Any:
    """Random clips of 100 frames; of 16 in a row all, or 3, have a second body."""
    from learning.training.device_clips import DeviceClips
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

    from learning.probing.features import Viewing, extract
    from learning.probing.probes import Labelled, linear_probe
    from learning.training.augment import Augmentations
    from learning.training.settings import SGD
    from learning.training.views import training_view
    from machine.devices.cuda_graphs import Replayed
    from machine.devices.reproducibility import computing
    from model.network.encoder import Encoder
    from model.network.folding import folded
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
                Viewing(64, "joint", centre_crop=0.95, batch=256, precision=precision),
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
                    SGD(epochs=80, lr=2.0, milestones=[50, 70]),
                    classes=60,
                    batch=1024,
                    seed=0,
                    device="cuda",
                )
                say(linear_80_epochs_s=round(time.perf_counter() - began, 2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ours", precision, compiled, share, batch]:
            ours(precision, compiled, share, int(batch))
        case ["released", checkout, how, batch]:
            released(checkout, how, int(batch))
        case ["frozen"]:
            frozen()
