"""Checks across keys, and against the prepared clips."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

from errors import UserError
from experiment.parameters.schema import Params
from experiment.parameters.types import names
from skeletons import formats, sensors, synthetic
from skeletons.archives import archive
from skeletons.clips import protocols
from skeletons.clips.layout import Layout
from skeletons.clips.protocols import FIELDS
from skeletons.clips.store import Clips

LISTS = Path("datasets/lists")
BRANCHES = 4  # temporal branches of a CTR-GCN block


class Meaningless(UserError):
    """Parameters with which a result on this data would mean nothing."""


def contradictions(p: Params) -> Iterator[str]:
    """Mistakes across keys, a line each: key, value and what is allowed."""
    yield from _datasets(p)
    yield from _runs(p)
    yield from _sizes(p)


def warnings(p: Params) -> Iterator[str]:
    """Warnings: legal settings that are probably a mistake, a line each."""
    for name in ("pretrain", "pretrain.probe", "linear", "semi", "transfer", "supervised"):
        section = attrgetter(name)(p)
        epochs, milestones = section.epochs, section.milestones
        if milestones != sorted(set(milestones)):
            yield f"{name}.milestones is {milestones}: not in ascending order"
        if milestones and max(milestones) >= epochs:
            yield f"{name}.milestones is {milestones}: beyond the last of {epochs} epochs"
    every = p.pretrain.probe.every
    if every and every > p.pretrain.epochs:
        yield f"pretrain.probe.every is {every}: more than the {p.pretrain.epochs} epochs"
    for name, transfer in p.transfers.items():
        source = p.runs[transfer.run].dataset
        shared = [
            one
            for one in p.datasets[source].archives.skeletons
            if one in p.datasets[transfer.target].archives.skeletons
        ]
        if shared:
            yield (
                f"transfers.{name}: {source} and {transfer.target} share {names(shared)}: "
                "the encoder may have been pretrained on the clips that test it"
            )


def own(file: str) -> str:
    """Advice on where to put something of one's own, and what Git must know of it."""
    return f"your own goes into {file}; `git add` a new file before a queued experiment"


def device(p: Params) -> None:
    """Raises UserError if the device that `machine.device` names is not there."""
    if p.machine.device == "cuda":
        import torch  # takes seconds, and is not needed otherwise

        if not torch.cuda.is_available():
            raise UserError(
                "machine.device is 'cuda', and torch finds no GPU: set it to auto or cpu"
            )


def lists(p: Params) -> None:
    """Raises UserError if a list of clips to leave out is not there."""
    for name, dataset in p.datasets.items():
        path = dataset.archives.leave_out
        if path is not None and not Path(path).is_file():
            place = f"datasets/{name}.yaml: archives.leave_out: there is no {path}"
            raise UserError(f"{place}; {own(path)}")


def on_dataset(p: Params, dataset: str, clips: Clips) -> Iterator[str]:
    """Warnings and mistakes, on a dataset's prepared clips, of all that uses it, a line each."""
    for section in ("runs", "supervised_runs"):
        for name, run in getattr(p, section).items():
            if run.dataset == dataset:
                try:
                    yield from on_run(p, section, name, clips)
                except Meaningless as error:
                    yield str(error)
    for name, transfer in p.transfers.items():
        if transfer.target == dataset:
            rule = p.datasets[dataset].protocols[transfer.protocol].rule
            try:
                _sides(f"transfers.{name}.protocol", transfer.protocol, rule, clips)
            except Meaningless as error:
                yield str(error)


def on_transfers(p: Params, read: Callable[[str], Clips | None]) -> Iterator[str]:
    """Warnings of transfers whose encoder is pretrained on clips with the names of those that test
    it. `read` gives the prepared clips of a dataset, None where there are none.
    """
    for name, transfer in p.transfers.items():
        run = p.runs[transfer.run]
        source, target = read(run.dataset), read(transfer.target)
        if source is None or target is None:
            continue
        rule = p.datasets[run.dataset].protocols[run.protocol].rule
        other = p.datasets[transfer.target].protocols[transfer.protocol].rule
        with suppress(UserError):  # of rules that do not fit, which `on_dataset` says
            shared = protocols.shared(source, rule, target, other)
            if shared:
                yield (
                    f"transfers.{name}: {len(shared):,} of the clips of {transfer.target} that "
                    f"test it have names of clips that {transfer.run} is pretrained on, such as "
                    f"{min(shared)}: are they the same?"
                )


def on_run(p: Params, section: str, name: str, clips: Clips) -> list[str]:
    """Warnings, on its prepared clips, of a run of `runs` or `supervised_runs`, a line each.

    Raises Meaningless, naming the parameter, where no result is possible: a side of a protocol
    without clips, sides without an action in common, a batch or neighbours that are more than the
    clips, a fraction of the labels without a clip.
    """
    run, key = getattr(p, section)[name], f"{section}.{name}"
    rule = p.datasets[run.dataset].protocols[run.protocol].rule
    sides = _sides(f"{key}.protocol", run.protocol, rule, clips)
    if not sides.test:
        empty = f"{key}.protocol is {run.protocol!r}: it leaves no test clip"
        if section == "supervised_runs":
            raise Meaningless(empty)
        return [f"{empty}; the encoder can only be pretrained"]
    if section == "supervised_runs":
        return []
    count, classes = sides.train, sides.trained
    where, found = f"the {count} training clips of {key}", []
    if p.retrieval.k > count:
        raise Meaningless(f"retrieval.k is {p.retrieval.k}: more than {where}")
    if p.pretrain.batch > count:
        raise Meaningless(f"pretrain.batch is {p.pretrain.batch}: more than {where}")
    for fraction in p.semi.fractions:
        drawn = math.floor(round(count * fraction, 6))
        if drawn < 1:
            raise Meaningless(f"semi.fractions has {fraction}: {drawn} of {where}")
        if drawn < classes:
            found.append(f"semi.fractions has {fraction}: {drawn} of {where}, of {classes} actions")
    if p.pretrain.queue > count:
        found.append(
            f"pretrain.queue is {p.pretrain.queue}: more than {where}, so that no epoch fills it "
            "and a clip's own older keys are among its negatives"
        )
    total = count // p.pretrain.batch * p.pretrain.epochs
    if p.pretrain.warmup > total:
        found.append(f"pretrain.warmup is {p.pretrain.warmup}: above the {total} steps of {key}")
    return found


def _sides(key: str, protocol: str, rule: Mapping[str, Any], clips: Clips) -> protocols.Sides:
    """The sizes of a protocol's sides, which have an action in common."""
    try:
        return protocols.check(clips, rule, name=protocol)
    except UserError as error:
        raise Meaningless(f"{key}: {error}") from None


def _datasets(p: Params) -> Iterator[str]:
    for name, dataset in p.datasets.items():
        file = f"datasets/{name}.yaml: "
        for mistake in _one_of(f"{file}format", dataset.format, formats.NAMES):
            yield f"{mistake}; {own(f'skeletons/formats/{dataset.format}.py')}"
        try:
            layout = sensors.layout(**dataset.sensor)
            if dataset.archives.joints:
                yield from _joints(p, name, layout)
        except UserError as error:
            yield f"{file}layout: {error}; {own(f'skeletons/sensors/{dataset.layout}.yaml')}"
        count, different = len(dataset.names), len(set(dataset.names))
        if count and not count == different == dataset.classes:
            yield (
                f"{file}names has {count}, {different} of them different, allowed: one for each of "
                f"the {dataset.classes} classes"
            )
        leave_out = dataset.archives.leave_out
        if leave_out is not None and Path(leave_out).parent != LISTS:
            yield (
                f"{file}archives.leave_out is {leave_out!r}, allowed: a file in {LISTS}, which DVC "
                "watches"
            )
        lists = [Path(path).name for path in dataset.archives.splits]
        known = dataset.format in formats.NAMES
        stated = known and formats.states_splits(dataset.format)  # by the archives, once read
        for protocol, described in dataset.protocols.items():
            if described.split is None and described.train is None:
                yield f"{file}protocols.{protocol} has neither train nor split"
            elif described.split is not None and (described.train or described.test):
                yield f"{file}protocols.{protocol} has split, and train or test: allowed: one"
            elif described.split is not None and not stated:
                yield from _one_of(f"{file}protocols.{protocol}.split", described.split, lists)
            some = described.actions or []
            if len(set(some)) < len(some) or max(some, default=1) > dataset.classes:
                yield (
                    f"{file}protocols.{protocol}.actions is {some}, allowed: 1 to "
                    f"{dataset.classes}, each once"
                )
            if known and not formats.has_columns(dataset.format):
                for side in ("train", "test"):
                    for field in sorted((getattr(described, side) or {}).keys() - set(FIELDS)):
                        yield (
                            f"{file}protocols.{protocol}.{side}: {field!r} is none of "
                            f"{names(FIELDS)}"
                        )
        if p.sources[name] == "synthetic" and known:
            yield from _one_of(
                f"sources.{name} is 'synthetic', and {file}format", dataset.format, synthetic.NAMES
            )
        files = sorted({str(archive.split_path(name)[0]) for name in dataset.archives.files})
        for checked in dataset.archives.md5:
            yield from _one_of(f"{file}archives.md5", checked, files)
    frames = p.synthetic.frames
    if len(frames) != 2 or frames[0] > frames[1]:
        yield f"synthetic.frames is {frames}, allowed: two integers, the smaller first"


def _joints(p: Params, name: str, layout: Layout) -> Iterator[str]:
    """Mistakes of a dataset's order of joints."""
    dataset, key = p.datasets[name], f"datasets/{name}.yaml: archives.joints"
    try:
        layout.order_of(dataset.archives.joints)
    except UserError as error:
        yield f"{key}: {error}"
    if p.sources[name] == "synthetic":
        yield f"{key} is not for synthetic archives, which have the joints of the layout in order"


def _runs(p: Params) -> Iterator[str]:
    for section in ("runs", "supervised_runs"):
        for name, run in getattr(p, section).items():
            yield from _one_of(f"{section}.{name}.dataset", run.dataset, p.sources)
            yield from _protocol(p, f"{section}.{name}.protocol", run.protocol, run.dataset)
    for name, transfer in p.transfers.items():
        yield from _one_of(f"transfers.{name}.run", transfer.run, p.runs)
        yield from _one_of(f"transfers.{name}.target", transfer.target, p.sources)
        yield from _protocol(p, f"transfers.{name}.protocol", transfer.protocol, transfer.target)
        if transfer.run not in p.runs or transfer.target not in p.datasets:
            continue
        source = p.datasets.get(p.runs[transfer.run].dataset)
        if source is not None and p.datasets[transfer.target].layout != source.layout:
            yield (
                f"transfers.{name}.target is {transfer.target!r}, allowed: a dataset of layout "
                f"{source.layout}, that of {transfer.run}"
            )
    for name, ensemble in p.ensembles.items():
        key, runs = f"ensembles.{name}", ensemble.runs
        if len(runs) < 2:
            yield f"{key} has a run of {names(runs)}, allowed: of two or three streams"
        if ensemble.weights and set(ensemble.weights) != set(runs):
            streams = names(runs)
            yield f"{key}.weights has {names(ensemble.weights)}, allowed: {streams}"
        first = p.runs.get(next(iter(runs.values()), ""))
        for stream, run in runs.items():
            yield from _one_of(f"{key}.{stream}", run, p.runs)
            if first is None or run not in p.runs:
                continue
            if p.runs[run].noted != {**first.noted, "stream": stream}:
                yield (
                    f"{key}.{stream} is {run!r}, allowed: a run of {first.dataset} "
                    f"{first.protocol}, stream {stream}"
                )


def _sizes(p: Params) -> Iterator[str]:
    for name, crop in (("views.crop", p.views.crop), ("finetune.crop", p.finetune.crop)):
        if crop.scale_min > crop.scale_max:
            most = f"at most scale_max, {crop.scale_max}"
            yield f"{name}.scale_min is {crop.scale_min}, allowed: {most}"
    mask = p.views.temporal_mask
    for name, value, other, divisor in (
        ("encoder.width", p.encoder.width, "the number of temporal branches", BRANCHES),
        ("encoder.dim", p.encoder.dim, "encoder.heads", p.encoder.heads),
        ("encoder.frames", p.encoder.frames, "views.temporal_mask.blocks", mask.blocks),
        ("pretrain.queue", p.pretrain.queue, "pretrain.batch", p.pretrain.batch),
    ):
        if value % divisor:
            yield f"{name} is {value}, allowed: a multiple of {other}, {divisor}"
    if late := [epoch for epoch in p.pretrain.keep_epochs if epoch > p.pretrain.epochs]:
        yield f"pretrain.keep_epochs has {late[0]}, allowed: up to {p.pretrain.epochs}"
    if mask.masked > mask.blocks:
        yield (
            f"views.temporal_mask.masked is {mask.masked}, allowed: at most "
            f"views.temporal_mask.blocks, {mask.blocks}"
        )
    joints = p.views.spatial_mask.joints
    used = {p.datasets[run.dataset].layout for run in p.runs.values() if run.dataset in p.datasets}
    for layout in map(sensors.layout, sorted(used & set(sensors.names()))):
        if joints > layout.joints:
            yield (
                f"views.spatial_mask.joints is {joints}, allowed: at most the {layout.joints} "
                f"joints of {layout.name}"
            )
    for name, values in (
        ("pretrain.terms", p.pretrain.terms),
        ("semi.fractions", p.semi.fractions),
    ):
        if not values or len(set(values)) < len(values):
            yield f"{name} is {values}, allowed: one or more, each once"


def _one_of(name: str, value: str, allowed: Collection[str]) -> Iterator[str]:
    if value not in allowed:
        yield f"{name} is {value!r}, allowed: one of {names(allowed)}"


def _protocol(p: Params, name: str, value: str, dataset: str) -> Iterator[str]:
    if dataset in p.datasets and value not in p.datasets[dataset].protocols:
        protocols = names(p.datasets[dataset].protocols)
        yield f"{name} is {value!r}, allowed: a protocol of {dataset}: {protocols}"
