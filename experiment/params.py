"""params.yaml: what every parameter means, its unit and the values allowed; reads and checks it.

`python -m experiment.params` checks params.yaml and prints all of this as a table. The default of a
parameter is its value in params.yaml, the paper's is its value in presets/paper.yaml.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from skeletons import synthetic
from skeletons.reading import formats
from skeletons.sensors import LAYOUTS

PATH = "params.yaml"
LISTS = Path("datasets/lists")


class InvalidParameter(ValueError):
    """A parameter that is missing, unknown, or has a value that is not allowed."""


@dataclass(frozen=True)
class P:
    """A parameter: its meaning, type, unit and range (`above` is exclusive) or options.

    `many` is a list of such values, `null` allows none at all.
    """

    meaning: str
    type: type
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    options: tuple[str, ...] = ()
    many: bool = False
    null: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        noun = {int: "integer", float: "number", bool: "boolean", str: "text"}[self.type]
        if self.options:
            words = ("any of " if self.many else "one of ") + ", ".join(self.options)
        elif self.type is bool:
            words = "true or false"
        else:
            article = "" if self.many or self.type is str else "an " if self.type is int else "a "
            words = article + noun + ("s" if self.many and self.type is not str else "")
        if self.low > -math.inf and self.high < math.inf:
            words += f" from {self.low:g} to {self.high:g}"
        elif self.above > -math.inf:
            words += f" above {self.above:g}"
            words += f", at most {self.high:g}" if self.high < math.inf else ""
        elif self.low > -math.inf:
            words += f", at least {self.low:g}"
        return f"{'a list: ' if self.many else ''}{words}{' or null' if self.null else ''}"

    def allows(self, value: Any) -> bool:
        """Whether a value read from YAML is one of the allowed."""
        if value is None:
            return self.null
        if self.many:
            return isinstance(value, list) and all(map(self._allows_one, value))
        return self._allows_one(value)

    def _allows_one(self, value: Any) -> bool:
        if self.options:
            return value in self.options
        if self.type in (bool, str):
            return isinstance(value, self.type)
        number = isinstance(value, int if self.type is int else (int, float))
        return (
            number
            and not isinstance(value, bool)
            and math.isfinite(value)
            and self.low <= value <= self.high
            and value > self.above
        )


@dataclass(frozen=True)
class Each:
    """Entries under names of the user's choice, all described by `of`."""

    meaning: str
    of: Any


@dataclass(frozen=True)
class Rule:
    """Which clips of a dataset train: `train: {field: values}`, perhaps with a `test` of that form,
    or `split: <one of its lists>`."""

    meaning: str


STREAMS = ("joint", "bone", "motion")
TERMS = ("ti", "si", "it", "is")
FIELDS = ("subject", "camera", "setup", "replication")


def _probability(what: str) -> P:
    return P(f"how often a view is {what}; 0 switches it off", float, low=0, high=1)


def _crop() -> dict[str, P]:
    return {
        "scale_min": P("shortest random crop, as a part of the clip", float, above=0, high=1),
        "scale_max": P("longest random crop, as a part of the clip", float, above=0, high=1),
        "min_frames": P("no crop is shorter, unless the clip is", int, "frames", low=1),
    }


_LR = P("learning rate of SGD at the start", float, above=0)
_MILESTONES = P("epochs from which the rate is a tenth of the one before", int, low=0, many=True)
_MOMENTUM = P("momentum of SGD", float, low=0, high=1)
_DECAY = P("weight decay of SGD", float, low=0)
_PRECISION = P("of the matrix products", str, options=("fp32", "bf16"))
_BATCH = P("clips in a training step", int, "clips", low=1)
_EPOCHS = P("passes over the training clips", int, "epochs", low=1)
_CENTRE_CROP = P("central part of a clip that is evaluated", float, above=0, high=1)
_RUN = {
    "dataset": P("name of a dataset under `sources`", str),
    "protocol": P("name of one of its protocols", str),
    "stream": P("what of the skeletons the encoder sees", str, options=STREAMS),
}
_COUNT = P("one of `COUNTS` of the format's module", int, low=1, high=99)
_LINEAR = {
    "epochs": _EPOCHS,
    "lr": _LR,
    "milestones": _MILESTONES,
    "momentum": _MOMENTUM,
    "batch": _BATCH,
}

SCHEMA: dict[str, Any] = {
    "seed": P("start of every random number of views, weights, order and draws", int, low=0),
    "sources": Each(
        "datasets of this experiment",
        P("`synthetic`, or the folder or URL that holds the dataset's archives", str),
    ),
    "runs": Each("encoders to pretrain and evaluate", _RUN),
    "supervised_runs": Each("encoders to train with all labels, from scratch", _RUN),
    "transfers": Each(
        "evaluations on another dataset",
        {
            "run": P("name of the pretrained run", str),
            "target": P("name of a dataset under `sources`", str),
            "protocol": P("name of one of its protocols", str),
        },
    ),
    "ensembles": Each(
        "means of the scores of three runs",
        {stream: P(f"name of a run of the {stream} stream", str) for stream in STREAMS},
    ),
    "machine": {
        "device": P("where training runs", str, options=("auto", "cpu", "cuda")),
        "checkpoint_minutes": P("time between saves of an unfinished run", float, "minutes", low=0),
    },
    "views": {
        "crop": _crop(),
        "rotate": {
            "probability": _probability("turned"),
            "degrees": P("largest turn about an axis drawn at random", float, "degrees", low=0),
            "minor_degrees": P("largest turn about the two other axes", float, "degrees", low=0),
        },
        "flip": {"probability": _probability("given the left joints for the right")},
        "shear": {
            "probability": _probability("sheared"),
            "max_shear": P("largest entry off the diagonal of the shear", float, low=0),
        },
        "spatial_mask": {
            "probability": _probability("shown without some joints"),
            "kind": P(
                "`top`: the joints nearest to the seeds; `neighbourhood`: all near a seed",
                str,
                options=("top", "neighbourhood"),
            ),
            "seeds": P("joints around which joints are masked", int, "joints", low=1),
            "joints": P("joints that `top` masks", int, "joints", low=1),
            "hops": P("bones between a seed and the joints near it", int, "bones", low=0),
        },
        "temporal_mask": {
            "probability": _probability("shown without some frames"),
            "blocks": P("equal blocks that the view's frames are cut into", int, "blocks", low=1),
            "masked": P("blocks that are masked", int, "blocks", low=0),
        },
    },
    "encoder": {
        "frames": P("frames that a view is resized to", int, "frames", low=1),
        "width": P("channels of the first graph convolution", int, "channels", low=4),
        "dim": P("size of a token, and of each domain's vector", int, low=1),
        "heads": P("attention heads of a transformer layer", int, low=1),
        "layers": P("transformer layers of each domain", int, low=1),
        "dropout": P("dropout in the transformer layers", float, low=0, high=1),
    },
    "pretrain": {
        "terms": P("terms of the loss, query to key", str, options=TERMS, many=True),
        "projection": P("size of the vectors that are contrasted", int, low=1),
        "queue": P("length of each of the three queues", int, "keys", low=1),
        "queue_start": P(
            "what is in the queues at first; the released code starts with random vectors",
            str,
            options=("random", "keys"),
        ),
        "momentum": P("part of the key encoder that a step keeps", float, low=0, high=1),
        "temperature": P("divides the similarities in the loss", float, above=0),
        "batch": P("clips in a training step", int, "clips", low=2),
        "epochs": _EPOCHS,
        "lr": _LR,
        "milestones": _MILESTONES,
        "schedule": P(
            "how the rate falls: `step`, at the milestones, or `cosine`, to 0 without them",
            str,
            options=("step", "cosine"),
        ),
        "warmup": P("first steps, over which the rate rises", int, "steps", low=0),
        "sgd_momentum": _MOMENTUM,
        "weight_decay": _DECAY,
        "precision": _PRECISION,
        "compile": P("whether torch.compile compiles the encoders", bool),
        "probe": {
            "every": P(
                "epochs between linear probes of the encoder; they measure with labels and change "
                "nothing; null for none",
                int,
                "epochs",
                low=1,
                null=True,
            ),
            "centre_crop": _CENTRE_CROP,
            **_LINEAR,
        },
    },
    "embed": {
        "centre_crop": _CENTRE_CROP,
        "batch": P("clips in a pass through the frozen encoder", int, "clips", low=1),
        "precision": _PRECISION,
    },
    "linear": _LINEAR,
    "retrieval": {"k": P("neighbours that vote", int, "clips", low=1)},
    "finetune": {
        "crop": _crop(),
        "batch": P("clips in a training step", int, "clips", low=2),
        "lr": _LR,
        "momentum": _MOMENTUM,
        "weight_decay": _DECAY,
        "precision": _PRECISION,
    },
    "semi": {
        "fractions": P("parts of the labels to fine-tune on", float, above=0, high=1, many=True),
        "draws": P("random draws of each fraction", int, low=1),
        "balanced": P("whether a draw has as many clips of every action", bool),
        "epochs": _EPOCHS,
        "milestones": _MILESTONES,
    },
    "transfer": {"epochs": _EPOCHS, "milestones": _MILESTONES},
    "supervised": {"epochs": _EPOCHS, "lr": _LR, "milestones": _MILESTONES},
    "prepare": {
        "on_error": P(
            "what a broken clip does: end the stage, or be left out", str, options=("stop", "skip")
        ),
        "require_complete": P("whether fewer clips than `expected` end the stage", bool),
        "keepbits": P(
            "bits kept of each coordinate's 23; null keeps all",
            int,
            "bits",
            low=1,
            high=23,
            null=True,
        ),
        "max_frames": P("longer clips keep their centre", int, "frames", low=1),
        "interval": P(
            "rows a PKU label means: [start, end) from 0, or [start, end] from 1",
            str,
            options=("half_open", "inclusive"),
        ),
        "workers": P("processes; the result does not depend on it", int, low=1),
        "executor": P("`processes`, or the address of a dask scheduler", str),
    },
    "synthetic": {
        "seed": P("start of every random number of the recordings", int, low=0),
        "actions": P("actions", int, low=1, high=99),
        "subjects": P("people", int, low=1, high=99),
        "cameras": P("cameras", int, low=1, high=99),
        "frames": P("shortest and longest clip", int, "frames", low=8, many=True),
        "noise": P("standard deviation of a joint's error", float, "metres", low=0),
    },
    "datasets": Each(
        "what there is to know of a dataset; those that `sources` does not name cost nothing",
        {
            "format": P(
                "module of `skeletons.reading.formats` that reads the archives",
                str,
                options=formats.NAMES,
            ),
            "layout": P("the sensor's joints", str, options=tuple(LAYOUTS)),
            "classes": P("actions", int, low=1),
            "archives": {
                "skeletons": P("zips or folders; `a.zip/b` is folder b of it", str, many=True),
                "labels": P("the same with PKU's label files", str, many=True),
                "splits": P("PKU's split lists", str, many=True),
            },
            "md5": Each("checksums of archives", P("the archive's MD5 in hexadecimal", str)),
            "leave_out": P(f"list in {LISTS} of clips to leave out, one a line", str, null=True),
            "expected": {
                "clips": P("clips of the complete dataset", int, low=1, null=True),
                "setups": P("setups of the complete dataset", int, low=1, null=True),
                "cameras": P("cameras of the complete dataset", int, low=1, null=True),
            },
            "access": P("where the archives are to be had", str, null=True),
            "synthetic": Each("numbers that only made-up archives of this format have", _COUNT),
            "protocols": Each(
                "ways to divide the clips",
                Rule(
                    "`train: {field: numbers, even or odd}`, the rest or `test` of the same form "
                    "tests; or `split: list`"
                ),
            ),
        },
    ),
}
OPTIONAL = ("expected", "synthetic")  # parts of a dataset that may be null as a whole


class Entries(dict[str, Any]):
    """Entries by name; a name that is not there is a mistake of the user."""

    def __init__(self, section: str, entries: Mapping[str, Any]) -> None:
        super().__init__(entries)
        self.section = section

    def __missing__(self, name: str) -> Any:
        raise InvalidParameter(f"{PATH}: {self.section} has no {name!r}: it has {_names(self)}")


def read(path: Path | str = PATH) -> dict[str, Any]:
    """The parameters of this experiment, all of them checked.

    Raises InvalidParameter with one line: the parameter, its value and what is allowed.
    """
    try:
        found = yaml.load(Path(path).read_text(), _Loader)
    except yaml.YAMLError as error:
        raise InvalidParameter(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        p: dict[str, Any] = _check("", found, SCHEMA)
        for name, value, allowed in _contradictions(p):
            _refuse(name, value, allowed)
    except InvalidParameter as error:
        raise InvalidParameter(f"{path}: {error}") from None
    return p


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as DVC and YAML 1.2 do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _check(name: str, value: Any, schema: Any) -> Any:
    """The value, if it is what the schema says of the parameter of this dotted name."""
    if isinstance(schema, P):
        if not schema.allows(value):
            _refuse(name, value, schema.allowed)
        return value
    if isinstance(schema, Rule):
        return _check_rule(name, value)
    if not isinstance(value, dict):
        if value is None and re.fullmatch(rf"datasets\..*\.({'|'.join(OPTIONAL)})", name):
            return None
        _refuse(name or "the file", value, "keys with values")
    if isinstance(schema, Each):
        return Entries(name, {k: _check(f"{name}.{k}", v, schema.of) for k, v in value.items()})
    prefix = f"{name}." if name else ""
    for key in value:
        if key not in schema:
            raise InvalidParameter(f"{prefix}{key} is unknown: allowed here: {_names(schema)}")
    for key in schema:
        if key not in value:
            raise InvalidParameter(f"{prefix}{key} is missing")
    return {key: _check(prefix + key, value[key], part) for key, part in schema.items()}


def _check_rule(name: str, rule: Any) -> Any:
    match rule:
        case {"split": str(), **rest} if not rest:
            return rule
        case {"train": dict(), **rest} if set(rest) <= {"test"} and all(rule.values()):
            for side, fields in rule.items():
                _check_fields(f"{name}.{side}", fields)
            return rule
    _refuse(name, rule, "train: {field: values}, perhaps with test: the same, or split: list")


def _check_fields(name: str, fields: Any) -> None:
    """One side of a rule: fields of clips and their values."""
    if not isinstance(fields, dict):
        _refuse(name, fields, "{field: values}")
    numbers = P("", int, low=0, many=True)
    for field, values in fields.items():
        if field not in FIELDS:
            _refuse(name, field, P("", str, options=FIELDS).allowed)
        if values not in ("even", "odd") and not (values and numbers.allows(values)):
            _refuse(f"{name}.{field}", values, "a list of integers, even or odd")


def _contradictions(p: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Values that are fine alone and not together: name, value, and what is allowed."""

    def known(name: str, value: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
        if value not in names:
            yield name, value, f"one of {_names(names)}"

    def protocol(name: str, value: str, dataset: str) -> Iterator[tuple[str, Any, str]]:
        if value not in p["datasets"][dataset]["protocols"]:
            protocols = _names(p["datasets"][dataset]["protocols"])
            yield name, value, f"a protocol of {dataset}: {protocols}"

    for dataset in p["sources"]:
        if dataset not in p["datasets"]:
            yield "sources", dataset, f"a dataset: {_names(p['datasets'])}"
    for name, source in p["sources"].items():
        if source == "synthetic":
            dataset = p["datasets"][name]
            counts = synthetic.load(dataset["format"]).COUNTS
            if set(dataset["synthetic"] or {}) != set(counts):
                yield (
                    f"datasets.{name}.synthetic",
                    dataset["synthetic"],
                    f"the numbers of format {dataset['format']}: {_names(counts)}",
                )
    for name, dataset in p["datasets"].items():
        leave_out = dataset["leave_out"]
        if leave_out is not None and Path(leave_out).parent != LISTS:
            yield f"datasets.{name}.leave_out", leave_out, f"a file in {LISTS}, which DVC watches"
        lists = [Path(path).name for path in dataset["archives"]["splits"]]
        for key, rule in dataset["protocols"].items():
            if "split" in rule and rule["split"] not in lists:
                yield (
                    f"datasets.{name}.protocols.{key}.split",
                    rule["split"],
                    f"one of datasets.{name}.archives.splits: {_names(lists)}",
                )
    for section in ("runs", "supervised_runs"):
        for name, run in p[section].items():
            yield from known(f"{section}.{name}.dataset", run["dataset"], p["sources"])
            yield from protocol(f"{section}.{name}.protocol", run["protocol"], run["dataset"])
    for name, transfer in p["transfers"].items():
        yield from known(f"transfers.{name}.run", transfer["run"], p["runs"])
        yield from known(f"transfers.{name}.target", transfer["target"], p["sources"])
        yield from protocol(f"transfers.{name}.protocol", transfer["protocol"], transfer["target"])
        layout = p["datasets"][p["runs"][transfer["run"]]["dataset"]]["layout"]
        if p["datasets"][transfer["target"]]["layout"] != layout:
            yield f"transfers.{name}.target", transfer["target"], f"a dataset of layout {layout}"
    for name, ensemble in p["ensembles"].items():
        for stream, run in ensemble.items():
            yield from known(f"ensembles.{name}.{stream}", run, p["runs"])
            first = p["runs"][ensemble["joint"]]
            if p["runs"][run] != {**first, "stream": stream}:
                yield (
                    f"ensembles.{name}.{stream}",
                    run,
                    f"a run of {first['dataset']} {first['protocol']}, stream {stream}",
                )

    views, encoder, pretrain = p["views"], p["encoder"], p["pretrain"]
    for name, crop in (("views.crop", views["crop"]), ("finetune.crop", p["finetune"]["crop"])):
        if crop["scale_min"] > crop["scale_max"]:
            yield f"{name}.scale_min", crop["scale_min"], f"at most scale_max {crop['scale_max']}"
    masked, blocks = views["temporal_mask"]["masked"], views["temporal_mask"]["blocks"]
    for name, value, other, divisor in (
        ("encoder.width", encoder["width"], "the number of temporal branches", 4),
        ("encoder.dim", encoder["dim"], "encoder.heads", encoder["heads"]),
        ("encoder.frames", encoder["frames"], "views.temporal_mask.blocks", blocks),
        ("pretrain.queue", pretrain["queue"], "pretrain.batch", pretrain["batch"]),
    ):
        if value % divisor:
            yield name, value, f"a multiple of {other}, {divisor}"
    if masked > blocks:
        yield "views.temporal_mask.masked", masked, f"at most views.temporal_mask.blocks, {blocks}"
    for run in p["runs"].values():
        layout = LAYOUTS[p["datasets"][run["dataset"]]["layout"]]
        if views["spatial_mask"]["joints"] > layout.joints:
            yield (
                "views.spatial_mask.joints",
                views["spatial_mask"]["joints"],
                f"at most the {layout.joints} joints of {layout.name}",
            )
    terms, fractions = pretrain["terms"], p["semi"]["fractions"]
    if not terms or len(set(terms)) < len(terms):
        yield "pretrain.terms", terms, f"one or more of {', '.join(TERMS)}, each once"
    if not fractions or len(set(fractions)) < len(fractions):
        yield "semi.fractions", fractions, "one or more numbers, each once"
    frames = p["synthetic"]["frames"]
    if len(frames) != 2 or frames[0] > frames[1]:
        yield "synthetic.frames", frames, "two integers, the smaller first"


def _refuse(name: str, value: Any, allowed: str) -> None:
    shown = "null" if value is None else repr(value)
    raise InvalidParameter(f"{name} is {shown}, allowed: {allowed}")


def _names(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"


def table() -> str:
    """All parameters as a Markdown table, with their values here and in the paper's preset."""
    here, paper = read(), read("presets/paper.yaml")
    lines = ["| parameter | unit | allowed | here | paper | meaning |", "|---|---|---|---|---|---|"]
    for name, schema in [*_leaves("", SCHEMA), *_counts()]:
        values = [] if "<" in name else [_value(p, name) for p in (here, paper)]
        unit, allowed = (schema.unit, schema.allowed) if isinstance(schema, P) else ("", "")
        cells = [f"`{name}`", unit, allowed, *(values or ["", ""]), schema.meaning]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _leaves(name: str, schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, Each):
        yield from _leaves(f"{name}.<name>", schema.of)
    elif isinstance(schema, dict):
        for key, part in schema.items():
            yield from _leaves(f"{name}.{key}".lstrip("."), part)
    else:
        yield name, schema


def _counts() -> Iterator[tuple[str, P]]:
    """The numbers that a dataset's `synthetic` has, of every format."""
    for form in synthetic.NAMES:
        for count, meaning in synthetic.load(form).COUNTS.items():
            name = f"datasets.<name>.synthetic.{count}"
            yield name, replace(_COUNT, meaning=f"{meaning}, for format `{form}`")


def _value(p: Any, name: str) -> str:
    for key in name.split("."):
        p = p[key]
    return ", ".join(map(str, p)) if isinstance(p, list) else "null" if p is None else f"{p}"


if __name__ == "__main__":
    from experiment import console

    console.run(table)
