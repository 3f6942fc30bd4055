"""The schema of params.yaml and datasets/<name>.yaml: meanings, units, types and allowed values.

A key with a default may be left out; a default is always "none of it", never a setting. DVC tracks
the values themselves for each stage, so this file decides no result.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr

from experiment.parameters.types import (
    BelowOne,
    Count,
    Entries,
    Few,
    Index,
    Named,
    NotNegative,
    Part,
    Positive,
    Probability,
    Section,
    Seed,
    Weight,
    key,
)
from learning.training.settings import (
    Precision,
    QueueStart,
    Schedule,
    SpatialMasking,
    Stream,
    TemporalMasking,
    Term,
)
from skeletons.clips.protocols import FIELDS

# ---- Datasets ------------------------------------------------------------------------------------


def _three(axes: list[str]) -> list[str]:
    """The axes, x, y and z each once."""
    if sorted(axis[-1:] for axis in axes) != ["x", "y", "z"]:
        raise ValueError("allowed: x, y and z, each once, with or without a minus")
    return axes


Axes = Annotated[list[Literal["x", "y", "z", "-x", "-y", "-z"]], AfterValidator(_three)]


class Archives(Section):
    skeletons: list[str] = key("zips or folders with the recordings; `a.zip/b` is folder b of it")
    labels: list[str] = key("the same with label files, where a format has them", default=[])
    splits: list[str] = key("PKU-MMD's split lists", default=[])
    md5: dict[str, str] = key("checksums of archives, in hexadecimal, by name", default={})
    leave_out: str | None = key(
        "list in datasets/lists of clips to leave out, one name a line", default=None
    )
    joints: list[Any] = key(
        "name or number, from 0, that the sensor has for each joint of the recordings, null: none; "
        "default: all in its order",
        default=[],
    )
    bodies: Annotated[int, Field(ge=1, le=2)] | None = key(
        "people in a prepared clip; default: the sensor's", default=None
    )
    unit: Literal["m", "cm", "mm"] = key("unit of the coordinates", default="m")
    axes: Axes = key(
        "the recordings' axes that become x, y and z, with their signs", default=["x", "y", "z"]
    )
    clips: Count | None = key("clips of the complete dataset", default=None)
    setups: Count | None = key("setups of the complete dataset", default=None)
    cameras: Count | None = key("cameras of the complete dataset", default=None)
    access: str | None = key("where the archives come from", default=None)

    @property
    def files(self) -> list[str]:
        """All that are named."""
        return [*self.skeletons, *self.labels, *self.splits]


def _side(fields: dict[str, Any]) -> dict[str, Any]:
    """One side of a rule: columns of the clips and their values. Those of other names than `FIELDS`
    may have words.
    """
    for field, values in fields.items():
        listed = isinstance(values, list) and len(values) > 0
        numbers = listed and all(type(v) is int and v >= 0 for v in values)
        words = listed and all(isinstance(v, str) for v in values) and field not in FIELDS
        if values not in ("even", "odd") and not numbers and not words:
            allowed = "a list of integers, even or odd"
            if field not in FIELDS:
                allowed = f"a list of words, {allowed}"
            raise ValueError(f"{field} is {values!r}, allowed: {allowed}")
    if not fields:
        raise ValueError("no field is named")
    return fields


Side = Annotated[dict[str, Any], AfterValidator(_side)]


class Protocol(Section):
    train: Side | None = key("the training clips: `{field: numbers, even or odd}`", default=None)
    test: Side | None = key("the test clips, in the same form; default: the rest", default=None)
    split: str | None = key(
        "instead of both, one of `archives.splits`, or a list that the archives hold",
        default=None,
    )
    actions: Annotated[list[Count], Field(min_length=1)] | None = key(
        "beside either, the actions that it is of, from 1; labels are counted anew in their order; "
        "default: all",
        default=None,
    )

    @property
    def rule(self) -> dict[str, Any]:
        """As `skeletons.clips.protocols.split` takes it."""
        return self.model_dump(exclude_none=True)


class Dataset(Section):
    format: str = key("module of `skeletons/formats` that reads the archives")
    layout: str = key("the sensor, one of `skeletons/sensors`")
    normal_form: Literal["released", "upright"] = key(
        "upright: for every sensor; released: the released code's, for NTU RGB+D and PKU-MMD"
    )
    classes: Count = key("number of actions")
    names: list[str] = key("names of the actions, one a class, in their order", default=[])
    archives: Archives = key("the files that the dataset consists of")
    protocols: Named[Protocol] = key("ways to divide the clips into training and test")

    @property
    def sensor(self) -> dict[str, Any]:
        """As `skeletons.sensors.layout` takes it."""
        released = self.normal_form == "released"
        return {"name": self.layout, "released": released, "bodies": self.archives.bodies}


# ---- The experiment ------------------------------------------------------------------------------


class Run(Section):
    dataset: str = key("a dataset under `sources`")
    protocol: str = key("one of its protocols")
    stream: Stream = key("what of the skeletons the encoder sees")

    @property
    def noted(self) -> dict[str, str]:
        """As the notes of weights have it."""
        return self.model_dump(include=set(Run.model_fields))


class PretrainedRun(Run):
    weights: str | None = key(
        "instead of pretraining: file or URL of a checkpoint of the released code, or of weights "
        "of another clone of this project",
        default=None,
    )


class Transfer(Section):
    run: str = key("the pretrained run, under `runs`")
    target: str = key("the other dataset, under `sources`")
    protocol: str = key("one of its protocols")


class Ensemble(Section):
    joint: str | None = key("a run of the joint stream; null: without this stream")
    bone: str | None = key("the same of the bone stream")
    motion: str | None = key("the same of the motion stream")
    weights: dict[str, Weight] = key(
        "how much each stream counts: `{stream: weight}`; none: all alike", default={}
    )

    @property
    def runs(self) -> dict[str, str]:
        """The runs by their streams, without those that are null."""
        found = {"joint": self.joint, "bone": self.bone, "motion": self.motion}
        return {stream: run for stream, run in found.items() if run is not None}


class Machine(Section):
    device: Literal["auto", "cpu", "cuda"] = key("where training runs")
    checkpoint_minutes: NotNegative = key("time between saves of an unfinished run", "minutes")


class Crop(Section):
    scale_min: Part = key("shortest random crop, as a part of the clip")
    scale_max: Part = key("longest random crop, as a part of the clip")
    min_frames: Count = key("no crop is shorter, unless the clip is", "frames")


class Rotate(Section):
    probability: Probability = key("how often a view is rotated; 0: never")
    degrees: NotNegative = key("largest angle about one axis, drawn at random", "degrees")
    minor_degrees: NotNegative = key("largest angle about the two other axes", "degrees")


class Flip(Section):
    probability: Probability = key("how often left and right joints are exchanged; 0: never")


class Shear(Section):
    probability: Probability = key("how often a view is sheared; 0: never")
    max_shear: NotNegative = key("largest entry off the diagonal of the matrix")


class SpatialMask(Section):
    probability: Probability = key("how often joints are masked; 0: never")
    kind: SpatialMasking = key(
        "top: the joints nearest to the seeds; neighbourhood: all near a seed"
    )
    seeds: Count = key("joints around which joints are masked", "joints")
    joints: Count = key("joints that `top` masks", "joints")
    hops: Index = key("bones between a seed and the joints near it", "bones")
    weight: BelowOne = key("what a masked joint is multiplied by; 0: hidden")


class TemporalMask(Section):
    probability: Probability = key("how often frames are masked; 0: never")
    kind: TemporalMasking = key(
        "uniform: all blocks alike; energy: by their motion; threshold: above a quantile of it"
    )
    blocks: Count = key("equal blocks that the frames of a view are cut into", "blocks")
    masked: Index = key("blocks that `uniform` and `energy` mask", "blocks")
    quantile: BelowOne = key("quantile of the blocks' motion, above which `threshold` masks")
    weight: BelowOne = key("what a masked frame is multiplied by; 0: hidden")


class Turn(Section):
    probability: Probability = key("how often a view is turned; 0: never")
    yaw: NotNegative = key("largest angle about the vertical, either way", "degrees")
    tilt: NotNegative = key("largest angle about x and about y, either way", "degrees")


class Scale(Section):
    probability: Probability = key("how often a view is scaled; 0: never")
    spread: BelowOne = key("the factor is between 1 minus this and 1 plus this")


class DropAxis(Section):
    probability: Probability = key("how often one of x, y, z is zeroed; 0: never")


class Views(Section):
    crop: Crop = key("random crop in time, resized to `encoder.frames`")
    rotate: Rotate = key("rotation about x, y and z")
    flip: Flip = key("left-right swap of joints; coordinates are not mirrored")
    shear: Shear = key("shear by a random matrix")
    spatial_mask: SpatialMask = key("structure-guided mask of joints")
    temporal_mask: TemporalMask = key("cube-based mask of frames")
    turn: Turn = key("turn about the body's own axis; not in the paper")
    scale: Scale = key("multiplication by one factor a clip; not in the paper")
    drop_axis: DropAxis = key("a coordinate zeroed; not in the paper")


class Encoder(Section):
    frames: Count = key("frames that a view is resized to", "frames")
    width: Annotated[int, Field(ge=4)] = key("channels of the first graph convolution", "channels")
    dim: Count = key("size of a token and of each domain's vector")
    heads: Count = key("attention heads of a transformer layer")
    layers: Count = key("transformer layers of each domain")
    dropout: BelowOne = key("dropout in the transformer layers")


class Linear(Section):
    epochs: Count = key("passes over the training clips", "epochs")
    lr: Positive = key("learning rate of SGD at the start")
    milestones: list[Index] = key("epochs from which the rate is a tenth of the one before")
    momentum: BelowOne = key("momentum of SGD")
    batch: Count = key("clips in a training step", "clips")


class Probe(Linear):
    every: Count | None = key(
        "epochs between linear probes while pretraining, which change nothing; null: none", "epochs"
    )
    centre_crop: Part = key("central part of a clip that is evaluated")


class Pretrain(Section):
    terms: list[Term] = key("terms of the loss, query to key; t temporal, s spatial, i instance")
    projection: Count = key("size of the projections that are contrasted")
    queue: Count = key("keys in each of the three queues", "keys")
    queue_start: QueueStart = key(
        "what the queues hold at first: random vectors, as in the released code, or keys"
    )
    momentum: BelowOne = key("m of the key encoder's momentum update")
    temperature: Positive = key("temperature of the InfoNCE terms")
    batch: Annotated[int, Field(ge=2)] = key("clips in a training step", "clips")
    epochs: Count = key("passes over the training clips", "epochs")
    lr: Positive = key("learning rate of SGD at the start")
    milestones: list[Index] = key("epochs from which the rate is a tenth of the one before")
    schedule: Schedule = key("step: the rate falls at the milestones; cosine: to 0 without them")
    warmup: Index = key("first steps, over which the rate rises", "steps")
    sgd_momentum: BelowOne = key("momentum of SGD")
    weight_decay: NotNegative = key("weight decay of SGD")
    precision: Precision = key("of matrix products; weights stay fp32")
    compile: bool = key("whether torch.compile compiles the encoders")
    keep_epochs: list[Count] = key(
        "epochs, from 1, after which the encoder is kept beside the last", default=[]
    )
    probe: Probe = key("linear probes of the encoder while it is pretrained")


class Embed(Section):
    centre_crop: Part = key("central part of a clip that is evaluated")
    batch: Count = key("clips in a pass through the frozen encoder", "clips")
    precision: Precision = key("of matrix products")


class Retrieval(Section):
    k: Count = key("nearest neighbours that vote", "clips")


class Finetune(Section):
    crop: Crop = key("random crop in time of a training clip")
    turn: Turn = key("turn of a training clip, as in `views`")
    scale: Scale = key("its multiplication by a factor, as in `views`")
    drop_axis: DropAxis = key("a coordinate of it zeroed, as in `views`")
    batch: Annotated[int, Field(ge=2)] = key("clips in a training step", "clips")
    lr: Positive = key("learning rate of SGD at the start")
    schedule: Schedule = key("how the rate falls, as in `pretrain`")
    momentum: BelowOne = key("momentum of SGD")
    weight_decay: NotNegative = key("weight decay of SGD")
    precision: Precision = key("of matrix products; weights stay fp32")

    @property
    def views(self) -> dict[str, Any]:
        """As `learning.training.augment.Augmentations.of` takes it."""
        return self.model_dump(include={"crop", "turn", "scale", "drop_axis"})


class Semi(Section):
    fractions: list[Part] = key("parts of the labels to fine-tune on")
    draws: Count = key("random draws of each fraction")
    balanced: bool = key("whether a draw has as many clips of every action")
    epochs: Count = key("passes over the drawn clips", "epochs")
    milestones: list[Index] = key("epochs from which the rate is a tenth of the one before")


class Tuning(Section):
    epochs: Count = key("passes over the training clips", "epochs")
    milestones: list[Index] = key("epochs from which the rate is a tenth of the one before")


class Supervised(Tuning):
    lr: Positive = key("learning rate of SGD at the start, instead of finetune.lr")


class Prepare(Section):
    on_error: Literal["stop", "skip"] = key("what a broken clip does: end the stage, or be skipped")
    require_complete: bool = key("whether fewer clips than the complete dataset end the stage")
    keepbits: Annotated[int, Field(ge=1, le=23)] | None = key(
        "bits kept of each coordinate's 23-bit mantissa; null: all", "bits"
    )
    max_frames: Count = key("longer clips keep their centre", "frames")
    interval: Literal["half_open", "inclusive"] = key(
        "rows that a PKU-MMD label means: [start, end) from 0, or [start, end] from 1"
    )
    workers: Count = key("processes; the result does not depend on it")
    executor: str = key("`processes`, or the address of a Dask scheduler")


class SyntheticNTU(Section):
    setups: Few = key("camera setups")
    replications: Few = key("times a person repeats an action")


class SyntheticPKU(Section):
    recordings: Few = key("long videos")
    instances: Few = key("actions in a video")


class Synthetic(Section):
    seed: Seed = key("seed of the recordings")
    actions: Few = key("number of actions")
    subjects: Few = key("number of people")
    cameras: Few = key("number of cameras")
    frames: list[Annotated[int, Field(ge=8)]] = key("shortest and longest clip", "frames")
    noise: NotNegative = key("standard deviation of a joint's error", "metres")
    ntu: SyntheticNTU = key("of datasets in the format ntu alone")
    pku: SyntheticPKU = key("of datasets in the format pku alone")


class Params(Section):
    seed: Seed = key("seed of weights, order, views and draws")
    sources: Named[str] = key("the datasets: `synthetic`, or the folder or URL of the archives")
    runs: Named[PretrainedRun] = key("encoders to pretrain and evaluate")
    supervised_runs: Named[Run] = key("encoders to train from scratch with all labels")
    transfers: Named[Transfer] = key("fine-tuning of a run on another dataset")
    ensembles: Named[Ensemble] = key("means of the scores of two or three runs")
    machine: Machine = key("of this machine; no result depends on it")
    views: Views = key("augmentation in pretraining")
    encoder: Encoder = key("the network")
    pretrain: Pretrain = key("contrastive pretraining")
    embed: Embed = key("feature extraction with the frozen encoder")
    linear: Linear = key("linear evaluation")
    retrieval: Retrieval = key("nearest-neighbour evaluation")
    finetune: Finetune = key("what semi, transfer and supervised have in common")
    semi: Semi = key("semi-supervised evaluation")
    transfer: Tuning = key("transfer to another dataset")
    supervised: Supervised = key("the all-labels ceiling")
    prepare: Prepare = key("from archives to the store of clips")
    synthetic: Synthetic = key("synthetic archives, for sources that are `synthetic`")
    _datasets: Entries = PrivateAttr(default_factory=Entries)

    @property
    def datasets(self) -> Mapping[str, Dataset]:
        """The datasets of `sources`, by name."""
        return self._datasets

    def recipe(self, dataset: str) -> dict[str, Any]:
        """As `skeletons.preparing.make_clips.Recipe` takes it, but for the layout."""
        entry = self.datasets[dataset]
        return {
            "format": entry.format,
            "classes": entry.classes,
            "joints": tuple(entry.archives.joints),
            "normal_form": entry.normal_form,
            "metres": {"m": 1.0, "cm": 0.01, "mm": 0.001}[entry.archives.unit],
            "axes": tuple(
                ("xyz".index(axis[-1]) + 1) * (-1 if len(axis) > 1 else 1)
                for axis in entry.archives.axes
            ),
            **self.prepare.model_dump(include={"max_frames", "keepbits"}),
        }

    def actions(self, dataset: str, protocol: str | None = None) -> list[str]:
        """The names of the actions of a dataset, or of a protocol of it, if its file has them.
        Synthetic actions are not those of the dataset that they stand for, and have none.
        """
        entry = self.datasets[dataset]
        named = [] if self.sources[dataset] == "synthetic" else entry.names
        chosen = entry.protocols[protocol].actions if protocol else None
        return [named[action - 1] for action in chosen] if chosen and named else named


def keys(schema: type[Section]) -> dict[str, dict[str, Any]]:
    """Every key by its dotted name, parents first, as JSON schema describes it; `<name>` is the
    user's choice.
    """
    whole = schema.model_json_schema()

    def below(section: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, field in section["properties"].items():
            yield f"{prefix}{name}", field
            entries = field.get("additionalProperties")
            alone = field.get("allOf", [field])[0]  # allOf: pydantic before 2.9
            for inner, under in ((alone, ""), (entries, "<name>.")):
                if isinstance(inner, dict) and "$ref" in inner:
                    found = whole["$defs"][inner["$ref"].rpartition("/")[2]]
                    yield from below(found, f"{prefix}{name}.{under}")

    return dict(below(whole, ""))
