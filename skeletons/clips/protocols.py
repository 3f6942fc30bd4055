"""Training and test clips of a protocol: a rule over subjects, cameras and the like, or a list of
names, of all actions or of some.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import UserError
from skeletons.clips.store import Clips

FIELDS = ("subject", "camera", "setup", "replication")  # of clips, besides their own columns
_PARITY = {"even": 0, "odd": 1}


class Sides(NamedTuple):
    """Numbers of clips that a protocol trains and tests on, of actions with training clips, and how
    many of these have test clips too.
    """

    train: int
    test: int
    trained: int
    common: int


def check(clips: Clips, rule: Mapping[str, Any], *, name: str = "") -> Sides:
    """The sizes of a protocol's sides, of which that for testing may be empty. Raises UserError as
    `split` does, and when no action has clips on both sides.
    """
    train, test = split(clips, rule, name=name, testless=True)
    trained, tested = (set(clips.label[side].tolist()) for side in (train, test))
    if tested and not trained & tested:
        raise UserError(f"{_named(rule, name)} has no action in common between training and test")
    return Sides(len(train), len(test), trained=len(trained), common=len(trained & tested))


def split(
    clips: Clips, rule: Mapping[str, Any], *, name: str = "", testless: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the training clips and of the test clips, ascending.

    `rule` is `{"train": {field: values}}`, where the field is subject, camera, setup, replication
    or one of the clips' `columns`, and values a list of numbers, "even" or "odd", or a list of
    words: other clips are test; several fields must all agree. With `"test": {field: values}`
    beside it, other clips than these are neither. Or it is `{"split": name}`, where the name is
    that of a split list of the dataset: clips on neither side of it are neither. With `"actions":
    numbers` beside it, from 1, clips of other actions are neither.

    Raises UserError, with the protocol's `name`, for a rule that is none of these, names an unknown
    field or list, leaves a side without clips (but that for testing, if `testless`) or puts a clip
    on both.
    """
    protocol = _named(rule, name)
    stated = rule.keys() - {"actions"}
    if stated == {"split"}:
        if rule["split"] not in clips.splits:
            known = ", ".join(clips.splits) or "none"
            raise UserError(f"{protocol}: this split list is not in the data, which has: {known}")
        side = clips.splits[rule["split"]]
        train, test = side == 1, side == 0
    elif {"train"} <= stated <= {"train", "test"} and all(rule.values()):
        train = _chosen(clips, rule["train"], protocol)
        test = _chosen(clips, rule["test"], protocol) if "test" in rule else ~train
    else:
        raise UserError(
            f"{protocol} is neither train: {{field: values}}, with or without "
            "test: {field: values}, nor split: file"
        )
    if (train & test).any():
        twice = clips.name[np.argmax(train & test)]
        raise UserError(f"{protocol} has clip {twice} in both training and test")
    of_actions = relabelled(clips, rule).label >= 0
    train, test = train & of_actions, test & of_actions
    for kind, chosen in (("training", train), ("test", test)):
        if not chosen.any() and not (testless and kind == "test"):
            raise UserError(f"{protocol} leaves no {kind} clip of {len(clips)}")
    return np.flatnonzero(train), np.flatnonzero(test)


def relabelled(clips: Clips, rule: Mapping[str, Any]) -> Clips:
    """The clips with the labels of a protocol: those of its `actions`, which are numbers from 1,
    count from 0 in their order, others are -1. Without `actions` the clips as they are.
    """
    if "actions" not in rule:
        return clips
    labels = np.full(clips.classes, -1, clips.label.dtype)
    labels[np.array(rule["actions"]) - 1] = np.arange(len(rule["actions"]))
    return replace(clips, label=labels[clips.label], classes=len(rule["actions"]))


def shared(
    source: Clips, rule: Mapping[str, Any], target: Clips, target_rule: Mapping[str, Any]
) -> set[str]:
    """The names of training clips of one dataset that test clips of another have, too. Raises
    UserError as `split` does.
    """
    train, _ = split(source, rule, testless=True)
    _, test = split(target, target_rule)
    return set(source.name[train].tolist()) & set(target.name[test].tolist())


def _named(rule: Mapping[str, Any], name: str) -> str:
    """A protocol for messages: `protocol xsub {'train': ...}`."""
    return " ".join(["protocol", *[name] * bool(name), repr(dict(rule))])


def _chosen(clips: Clips, fields: Mapping[str, Any], protocol: str) -> NDArray[np.bool_]:
    """True for the clips that agree with the values of all fields."""
    chosen = [_agrees(clips, field, values, protocol) for field, values in fields.items()]
    return np.all(chosen, axis=0)


def _agrees(
    clips: Clips, field: str, values: str | Sequence[int | str], protocol: str
) -> NDArray[np.bool_]:
    columns = {**{name: getattr(clips, name) for name in FIELDS}, **clips.columns}
    if field not in columns:
        raise UserError(f"{protocol}: field {field!r} is none of {', '.join(columns)}")
    column = columns[field]
    words = column.dtype.kind == "T"
    if isinstance(values, str):
        if values not in _PARITY:
            raise UserError(f"{protocol}: {field} {values!r} is neither a list, 'even' nor 'odd'")
        if not words:
            return np.asarray(column % 2 == _PARITY[values])
    elif all(isinstance(value, str) == words for value in values):
        return np.isin(column, list(values))
    kind, example = "words" if words else "whole numbers", column.tolist()[0]
    raise UserError(f"{protocol}: {field} has {kind}, such as {example!r}: list some of them")


def draw_clips(
    labels: np.ndarray, fraction: float, *, seed: int, draw: int, balanced: bool = False
) -> np.ndarray:
    """Ascending positions of floor(N * `fraction`) of the N `labels`: draw `draw` of `seed`.

    The same wherever it is called, and a smaller fraction's clips are among a larger one's.
    `balanced` takes as many clips of every class as of any other: floor(count / classes) of each
    and one more of some; a class that has fewer gives all and the others make up for it. So each
    class has a clip if there are as many clips as classes. Raises UserError if no clip is drawn.
    """
    # Rounded first, because 0.29 * 100 is 28.999999999999996.
    count = math.floor(round(len(labels) * fraction, 6))
    if not 1 <= count <= len(labels):
        raise UserError(f"fraction {fraction} of {len(labels)} clips is {count} clips")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, draw])))
    order = generator.random(len(labels)).argsort(kind="stable")
    if balanced:  # every class's first clip in this order, then every class's second, ...
        order = order[_occurrence(labels[order]).argsort(kind="stable")]
    return np.sort(order[:count])


def _occurrence(labels: np.ndarray) -> np.ndarray:
    """Count how often each element's value came before it."""
    by_class = labels.argsort(kind="stable")
    _, first, counts = np.unique(labels[by_class], return_index=True, return_counts=True)
    occurrence = np.empty(len(labels), dtype=np.int64)
    occurrence[by_class] = np.arange(len(labels)) - np.repeat(first, counts)
    return occurrence
