"""How fast are training, the frozen encoder and its probes? Printed; nothing here is a test.

    RELEASED=<checkout of the released code> ROUNDS=2 python -m bench.training

All at the paper's size, batch 16, on the CPU. In `step` and `forward` every clip has two bodies, in
`step-ntu` and `forward-ntu` 3 of 16 have, about the share of NTU-60's actions; `step-small` is a
step of the run in params.yaml, by default of a small network. The released code is measured between
ours, in fp32 as it trains, and left out without RELEASED; COMPILE=1 adds ours under
`torch.compile`. Training and the frozen encoder have a process each, since an evaluation does not
train; a measurement is the best of three calls after one that does not count, and of ROUNDS (1 by
default). Ours keeps freed memory, as the stages do; MALLOC_MMAP_MAX_=0 and
MALLOC_TRIM_THRESHOLD_=2147483647 before the command let the released code keep it, too. Wall time
suffers from other programs, CPU time hardly does: with THREADS=1 it is the fairest measure on a
machine that is shared. A round takes some minutes.
"""

import functools
import os
import resource
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

BATCH, PAIRS = 16, 3
TRAIN, TEST, CLASSES = 40_091, 16_487, 60  # ntu60 xsub
NETWORKS = [("ours", "fp32"), ("released", "fp32"), ("ours", "bf16"), ("compiled", "fp32")]


def main() -> None:
    released = os.environ.get("RELEASED")
    threads = os.environ.get("THREADS", str(torch.get_num_threads()))
    print(f"torch {torch.__version__}, {threads} threads, batch {BATCH}: best wall / CPU seconds")
    if not released:
        print("RELEASED is not set: the released code is not measured")
    skipped = {"" if released else "released", "" if "COMPILE" in os.environ else "compiled"}
    best: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(int(os.environ.get("ROUNDS", "1"))):
        for which, precision in NETWORKS:
            if which in skipped:
                continue
            for line in worker("train", which, precision) + worker("evaluate", which, precision):
                name, *times = line.split()
                before = best.get((which, precision, name), [float("inf")] * 2)
                best[which, precision, name] = [
                    min(one, float(other)) for one, other in zip(before, times, strict=True)
                ]
    for (which, precision, name), (wall, cpu) in best.items():
        print(f"{name:12} {which:8} {precision} {wall:7.3f} / {cpu:.3f}", end="")
        if which != "released" and ("released", "fp32", name) in best:
            walls, cpus = best["released", "fp32", name]
            print(f"  released fp32 x {walls / wall:.2f} / {cpus / cpu:.2f}", end="")
        print()
    print("`views` makes both views of a batch and is not part of `step`.")
    arithmetic = {key: float(value) for key, value in (line.split() for line in worker("flop"))}
    for name in ("step", "step-ntu", "forward", "forward-ntu"):
        rate = arithmetic[name] / best["ours", "fp32", name][0]
        print(
            f"{name}: {arithmetic[name] / 1e12:.3f} TFLOP, in fp32 {rate / 1e9:.0f} GFLOP/s, "
            f"{100 * rate / arithmetic['convolution']:.0f} % of a 1x1 convolution's"
        )
    print(
        f"1024 tokens by a linear layer's weights: {arithmetic['product'] / 1e9:.0f} GFLOP/s as a "
        f"matrix product (MKL), {arithmetic['convolution'] / 1e9:.0f} as a convolution (oneDNN)"
    )
    linear = {key: float(value) for key, value in (line.split() for line in worker("linear"))}
    frozen = best["ours", "fp32", "forward"][0] / BATCH
    ours = (TRAIN + TEST) * frozen + 80 * linear["epoch"]
    print(
        f"linear evaluation of ntu60 xsub, 80 epochs: ours {ours:.0f} s, of which cached features "
        f"{(TRAIN + TEST) * frozen:.0f} s ({TRAIN + TEST} clips at a measured {frozen:.3f} s) and "
        f"epochs {80 * linear['epoch']:.0f} s (one measured)"
    )
    if released:
        frozen = best["released", "fp32", "forward"][0] / BATCH
        theirs = 80 * ((TRAIN + TEST) * frozen + linear["epoch"])
        print(f"  released: every clip in every epoch, {theirs:.0f} s: x {theirs / ours:.0f}")
    print(
        f"kNN of 2,048 of {TEST} queries against {TRAIN} x 4,096 features: {linear['knn']:.1f} s, "
        f"{linear['memory']:.0f} MB beside the features; more queries need no more memory"
    )


def worker(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "bench.training", *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.removeprefix("= ") for line in output.splitlines() if line.startswith("= ")]


def report(name: str, function: Callable[[], object], times: int = 3) -> None:
    """Prints the best wall and CPU seconds of a few calls after one that does not count."""
    function()
    wall = cpu = float("inf")
    for _ in range(times):
        walls, cpus = time.perf_counter(), time.process_time()
        function()
        wall = min(wall, time.perf_counter() - walls)
        cpu = min(cpu, time.process_time() - cpus)
    print(f"= {name} {wall:.4f} {cpu:.4f}", flush=True)


def train(which: str, precision: str) -> None:
    views, low = torch.empty(2, BATCH, 3, 64, 25, 2), autocast(precision)
    if which == "released":
        net = released_net()
        entropy = torch.nn.CrossEntropyLoss()

        def loss() -> torch.Tensor:
            out = net(*views)
            return sum(entropy(a, b) for a, b in zip(out[:4], out[4:], strict=True))
    else:
        net = our_net()
        if which == "compiled":
            from model.network.encoder import compile_in_training

            compile_in_training(net.query.encoder, net.key.encoder)

        def loss() -> torch.Tensor:
            return net(*views)[0]

    step = training_step(net, loss, low, fused=which != "released")
    for share in fill(views):
        report(f"step{share}", step)
    if which == "ours":
        report("views", both_views())
        report("step-small", small_step(low))


def evaluate(which: str, precision: str) -> None:
    clips, low = torch.empty(BATCH, 3, 64, 25, 2), autocast(precision)
    if which == "released":
        represent = released_net().encoder_q.encoder.eval()
    else:
        from model.network.folding import folded

        represent = folded(our_net().query.encoder).represent
        if which == "compiled":
            represent = torch.compile(represent)

    def forward() -> None:
        with torch.no_grad(), low:
            represent(clips)

    for share in fill(clips):
        report(f"forward{share}", forward)


def autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def fill(clips: torch.Tensor) -> Iterator[str]:
    """Fills (..., B, 3, T, V, M) with clips of two bodies, then takes most second bodies away."""
    clips.copy_(torch.randn(clips.shape, generator=torch.Generator().manual_seed(0)))
    yield ""
    clips[..., PAIRS:, :, :, :, 1] = 0
    yield "-ntu"


def released_net() -> Any:
    sys.path.insert(0, os.environ["RELEASED"])
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    from scd.builder import SCD_Net

    torch.manual_seed(0)
    size = {"hidden_size": 2048, "num_head": 8, "num_layer": 1, "num_class": 128}
    return SCD_Net(size, 128, 8192, 0.999, 0.2)


def our_net() -> Any:
    from learning.training.pretrain import SCDNet
    from machine.host.memory import keep_freed_memory
    from model.network.encoder import Encoder, Projector
    from skeletons.sensors import KINECT_V2

    keep_freed_memory()
    torch.manual_seed(0)
    return SCDNet(Projector(Encoder(parents=KINECT_V2.parents)))


def training_step(
    net: torch.nn.Module,
    loss: Callable[[], torch.Tensor],
    low: torch.autocast,
    *,
    fused: bool,
) -> Callable[[], None]:
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(
        parameters, lr=0.01, momentum=0.9, weight_decay=1e-4, fused=fused or None
    )

    def step() -> None:
        with low:
            value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def small_step(low: torch.autocast) -> Callable[[], None]:
    """A step of the run in params.yaml: its network and batch, 6 clips of two bodies."""
    from experiment.parameters import params
    from learning.training.pretrain import SCDNet
    from model.network.encoder import Encoder, Projector
    from skeletons.sensors import KINECT_V2

    p = params.read()
    encoder = Encoder(parents=KINECT_V2.parents, **dict(p.encoder))
    net = SCDNet(Projector(encoder), queue=p.pretrain.queue)
    views = torch.randn(2, p.pretrain.batch, 3, p.encoder.frames, 25, 2)
    views[:, 6:, ..., 1] = 0
    return training_step(net, lambda: net(*views)[0], low, fused=True)


def flop() -> None:
    """What a step and a forward pass compute, and how much of that a linear layer does a second
    (1024 tokens, fp32), as a matrix product and as we compute it.
    """
    from model.network.pointwise import TokenLinear

    net = our_net()
    views = torch.empty(2, BATCH, 3, 64, 25, 2)
    for share in fill(views):
        with FlopCounterMode(display=False) as counter:
            net(*views)[0].backward()
        print(f"= step{share} {counter.get_total_flops()}")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.query.encoder.represent(views[0])
        print(f"= forward{share} {counter.get_total_flops()}")
    tokens, layer = torch.randn(BATCH, 64, 2048), TokenLinear(2048, 2048)
    computed = {"product": torch.nn.Linear.forward, "convolution": TokenLinear.forward}
    for name, forward in computed.items():
        with torch.inference_mode():
            call = functools.partial(forward, layer, tokens)
            seconds = min(timeit.repeat(call, number=10, repeat=5)) / 10
        print(f"= {name} {2 * tokens.numel() * 2048 / seconds}")


def both_views() -> Callable[[], object]:
    """Makes query and key views of 16 clips of 100 frames with all augmentations."""
    from learning.training.augment import Augmentations
    from learning.training.device_clips import DeviceClips
    from learning.training.views import training_view
    from skeletons.sensors import KINECT_V2

    clips = DeviceClips(
        frames=torch.randn(100 * BATCH, 2, 25, 3),
        offsets=torch.arange(0, 100 * BATCH + 1, 100),
        labels=torch.zeros(BATCH, dtype=torch.int64),
        classes=1,
        layout=KINECT_V2,
        device=torch.device("cpu"),
    )
    return lambda: training_view(
        clips,
        torch.arange(BATCH).repeat(2),
        size=64,
        stream="joint",
        augmentations=Augmentations(),
        seed=0,
        epoch=0,
        view=torch.arange(2).repeat_interleave(BATCH),
    )


def linear() -> None:
    from learning.probing.probes import Labelled, linear_probe, nearest
    from learning.training.settings import SGD

    torch.manual_seed(0)
    train = Labelled(torch.randn(TRAIN, 4096), torch.randint(CLASSES, (TRAIN,)))
    test = Labelled(torch.randn(TEST, 4096), torch.randint(CLASSES, (TEST,)))
    start = time.perf_counter()
    linear_probe(
        train,
        test,
        SGD(epochs=1, lr=0.01),
        classes=CLASSES,
        batch=1024,
        seed=0,
        device="cpu",
    )
    print(f"= epoch {time.perf_counter() - start:.3f}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    nearest(test.features[:2048], train.features)
    print(f"= knn {time.perf_counter() - start:.3f}")
    print(f"= memory {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3:.1f}")


if __name__ == "__main__":
    if "THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["THREADS"]))
    match sys.argv[1:]:
        case []:
            main()
        case ["train", which, precision]:
            train(which, precision)
        case ["evaluate", which, precision]:
            evaluate(which, precision)
        case ["flop"]:
            flop()
        case ["linear"]:
            linear()
