"""Time the training steps of one configuration, in a process of its own; prints figures as JSON.

    python bench/steps.py ours RUN                      in a project's folder
    python bench/steps.py released CHECKOUT BATCH

Ours is stage `pretrain` of the checkout in PYTHONPATH: whole steps, with views, optimiser, momentum
update and queues. The released code is given random tensors in place of views, and trains as it
does: in fp32, on a GPU with TF32 in convolutions alone.
"""

import contextlib
import fcntl
import importlib
import itertools
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity
from torch.utils.flop_counter import FlopCounterMode

CUDA = torch.cuda.is_available()
WARM, TIMED, PROFILED = (16, 32, 4) if CUDA else (2, 6, 2)
STEPS = WARM + TIMED + 1 + PROFILED


class Steps:
    """Steps handed on, of which some are timed and the next profiled; the rest are not measured."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.figures: dict[str, Any] = {}

    def __call__(self, steps: Iterable[int]) -> Iterator[int]:
        marks: list[Any] = []
        activity = ProfilerActivity.CUDA if CUDA else ProfilerActivity.CPU
        profile = torch.profiler.profile(activities=[activity])
        flop = FlopCounterMode(display=False)
        with contextlib.ExitStack() as stack:
            for number, step in enumerate(steps):  # a number is asked for when its step is over
                if number == 0:
                    self.figures["first_step_s"] = round(time.perf_counter() - self.began, 1)
                if number == WARM:
                    # one process measures at a time, while the compilers of others may work
                    lock = stack.enter_context(open(os.environ["BENCH_LOCK"], "w"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                if WARM <= number <= WARM + TIMED:
                    marks.append(_mark())
                if number == WARM + TIMED:
                    self.figures |= _times(marks)
                    counting = contextlib.ExitStack()
                    counting.enter_context(contextlib.nullcontext() if CUDA else flop)
                if number == WARM + TIMED + 1:
                    counting.close()
                    stack.enter_context(profile)
                if number == STEPS:
                    stack.close()
                    self.figures |= _parts(profile)
                    self.figures["GFLOP"] = round(flop.get_total_flops() / 1e9, 1)
                yield step


def _mark() -> Any:
    """The present: an event of the GPU's, or seconds by the clock and of CPU."""
    if not CUDA:
        return time.perf_counter(), time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _times(marks: list[Any]) -> dict[str, float]:
    """Milliseconds of a step between marks, the median on a GPU, else the best; memory in GB."""
    pairs = [*itertools.pairwise(marks)]
    if CUDA:
        torch.cuda.synchronize()
        ms = statistics.median(start.elapsed_time(end) for start, end in pairs)
        return {"ms": round(ms, 2), "GB": round(torch.cuda.max_memory_reserved() / 1e9, 1)}
    wall, cpu = (1e3 * min(end[i] - start[i] for start, end in pairs) for i in (0, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"ms": round(wall, 1), "cpu_ms": round(cpu, 1), "GB": round(peak, 1)}


def _parts(profile: torch.profiler.profile) -> dict[str, Any]:
    """Milliseconds and calls of a step's kernels or operations, the longest first."""
    name = "self_device_time_total" if CUDA else "self_cpu_time_total"  # in microseconds
    parts = [
        (row.key[:110], getattr(row, name) / 1e3 / PROFILED, row.count / PROFILED)
        for row in profile.key_averages()
    ]
    sums = {"parts_ms": round(sum(part[1] for part in parts), 2), "calls": sum(p[2] for p in parts)}
    return {**sums, "parts": sorted(parts, key=lambda part: -part[1])[:45]}


def ours(run: str) -> dict[str, Any]:
    """Figures of stage `pretrain`, whose progress bar is given the numbers of its steps."""
    stage, steps = importlib.import_module("stages.pretrain"), Steps()
    stage.console.bar = lambda *_: steps
    stage.main(run)
    return steps.figures


def released(checkout: str, batch: int) -> dict[str, Any]:
    """Figures of the released code."""
    sys.path.insert(0, checkout)
    if not CUDA:
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    from scd.builder import SCD_Net

    torch.manual_seed(0)
    device = "cuda" if CUDA else "cpu"
    size = {"hidden_size": 2048, "num_head": 8, "num_layer": 1, "num_class": 128}
    network = SCD_Net(size, 128, 8192, 0.999, 0.2).to(device)
    entropy = torch.nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    views = torch.randn(2, batch, 3, 64, 25, 2, device=device)
    steps = Steps()
    for _ in steps(range(STEPS + 1)):
        out = network(*views)
        loss = sum(entropy(a, b) for a, b in zip(out[:4], out[4:], strict=True))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return steps.figures


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ours", run]:
            print(json.dumps(ours(run)))
        case ["released", checkout, batch]:
            print(json.dumps(released(checkout, int(batch))))
