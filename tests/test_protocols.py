"""Protocols: rules against the lists and sizes that the datasets' papers state."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from layouts import KINECT_V2

from errors import UserError
from skeletons.clips.protocols import Sides, check, relabelled, split
from skeletons.clips.store import Clips

ROOT = Path(__file__).parent.parent
DATASETS = {
    path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "datasets").glob("*.yaml")
}
FIELDS = {"setup": "S", "camera": "C", "subject": "P", "replication": "R"}

# Training and test clips of each protocol (NTU: after the missing ones are left out).
SIZES = {
    ("ntu60", "xsub"): (40_091, 16_487),
    ("ntu60", "xview"): (37_646, 18_932),
    ("ntu120", "xsub"): (63_026, 50_919),
    ("ntu120", "xset"): (54_468, 59_477),
}


def named(names: list[str], **splits: Any) -> Clips:
    """Clips of which only the names are known."""
    fields = {
        field: np.array([int(re.search(rf"{letter}(\d+)", name)[1]) for name in names], np.int32)
        for field, letter in FIELDS.items()
    }
    return Clips(
        frames=np.empty((0, 2, KINECT_V2.joints, 3), np.float32),
        offsets=np.zeros(len(names) + 1, np.int64),
        label=np.zeros(len(names), np.int32),
        name=np.array(names),
        raw_frames=np.zeros(len(names), np.int32),
        splits=splits,
        layout=KINECT_V2,
        classes=1,
        **fields,
    )


@pytest.mark.parametrize(("dataset", "protocol"), SIZES)
def test_sizes_agree_with_the_missing_clips(dataset: str, protocol: str) -> None:
    """With the missing clips put back a side is whole.

    NTU records a subject in a setup with 3 cameras, 2 replications and 60 actions, so with a rule
    on subjects or setups a side is a multiple of 360 clips, and with one on cameras of 120 for
    each camera.
    """
    entry = DATASETS[dataset]
    missing = (ROOT / entry["archives"]["leave_out"]).read_text().split()
    train, test = split(named(missing), entry["protocols"][protocol])
    sizes = SIZES[dataset, protocol]
    assert sum(sizes) == entry["archives"]["clips"]
    whole = (sizes[0] + len(train), sizes[1] + len(test))
    assert sum(whole) == {"ntu60": 56_880, "ntu120": 114_480}[dataset]
    if protocol == "xview":
        assert whole == (2 * whole[1], 56_880 // 3)
    else:
        assert all(side % 360 == 0 for side in whole)


@pytest.mark.parametrize(
    ("dataset", "sizes"), [("pku1", (18_841, 2_704)), ("pku2", (5_332, 1_613))]
)
def test_pku_sizes_add_up(dataset: str, sizes: tuple[int, int]) -> None:
    assert sum(sizes) == DATASETS[dataset]["archives"]["clips"]
    assert {"xsub", "xview"} == set(DATASETS[dataset]["protocols"])


def test_the_lists_of_missing_clips() -> None:
    lists = [
        set((ROOT / DATASETS[d]["archives"]["leave_out"]).read_text().split())
        for d in ("ntu60", "ntu120")
    ]
    assert [len(names) for names in lists] == [302, 535]
    assert lists[0] < lists[1]


def test_rules() -> None:
    names = [f"S{s:03}C{c:03}P{p:03}R001A001" for s in (1, 2, 4) for c in (1, 2, 3) for p in (1, 3)]
    clips = named(names)
    for rule, condition in (
        ({"train": {"subject": [1, 8]}}, lambda i: clips.subject[i] in (1, 8)),
        ({"train": {"camera": [2, 3]}}, lambda i: clips.camera[i] in (2, 3)),
        ({"train": {"setup": "even"}}, lambda i: clips.setup[i] % 2 == 0),
        (
            {"train": {"setup": "odd", "camera": [1]}},
            lambda i: clips.setup[i] % 2 == 1 and clips.camera[i] == 1,
        ),
    ):
        train, test = split(clips, rule)
        assert train.tolist() == [i for i in range(len(names)) if condition(i)]
        assert sorted([*train, *test]) == list(range(len(names)))


def test_a_rule_for_the_test_clips_leaves_others_on_neither_side() -> None:
    names = [f"S001C{c:03}P{p:03}R001A001" for c in (1, 2, 3) for p in (1, 2, 3)]
    clips = named(names)
    rule = {
        "train": {"camera": [1, 2], "subject": [1, 2]},
        "test": {"camera": [1, 2], "subject": [3]},
    }
    train, test = split(clips, rule)
    assert [names[i][5:12] for i in train] == ["001P001", "001P002", "002P001", "002P002"]
    assert [names[i][5:12] for i in test] == ["001P003", "002P003"]
    rule["test"]["subject"] = [2, 3]
    with pytest.raises(ValueError, match="has clip S001C001P002R001A001 in both training and test"):
        split(clips, rule)


def test_hyper_parameters_of_nwucla_are_chosen_on_its_training_clips() -> None:
    """`val` divides the training clips of `xview` by their subjects."""
    rules = DATASETS["nwucla"]["protocols"]
    clips = named([f"S000C{c:03}P{p:03}R001A001" for c in (1, 2, 3) for p in range(1, 11)])
    train, test = split(clips, rules["val"])
    assert sorted([*train, *test]) == split(clips, rules["xview"])[0].tolist()
    assert set(clips.subject[train]) == set(range(1, 8))
    assert set(clips.subject[test]) == {8, 9, 10}


def test_a_protocol_of_some_actions_counts_their_labels_anew() -> None:
    names = [f"S001C{c:03}P001R001A{a:03}" for c in (1, 2, 3) for a in range(1, 7)]
    side = np.array(([1, 1, 0, 0, -1] * 4)[:18], np.int8)
    clips = replace(named(names, mine=side), label=np.arange(18, dtype=np.int32) % 6, classes=6)
    of_actions = {"train": {"camera": [1, 2]}, "actions": [6, 2, 3]}
    for rule in (of_actions, {"split": "mine", "actions": [6, 2, 3]}):
        train, test = split(clips, rule)
        trained = [c.endswith(("A002", "A003", "A006")) for c in names]
        whole = split(clips, {k: v for k, v in rule.items() if k != "actions"})
        assert train.tolist() == [i for i in whole[0] if trained[i]]
        assert test.tolist() == [i for i in whole[1] if trained[i]]
    counted = relabelled(clips, of_actions)
    assert counted.classes == 3
    assert counted.label.tolist() == [{"6": 0, "2": 1, "3": 2}.get(name[-1], -1) for name in names]
    assert relabelled(clips, {"split": "mine"}) is clips
    with pytest.raises(UserError, match=r"'actions': \[5\]} leaves no training clip of 18$"):
        split(clips, {"train": {"camera": [9]}, "actions": [5]})


def test_a_split_list_may_leave_clips_on_neither_side() -> None:
    clips = named(
        ["S001C001P001R001A001"] * 4, **{"cross-subject.txt": np.array([1, 0, -1, 1], np.int8)}
    )
    train, test = split(clips, {"split": "cross-subject.txt"})
    assert train.tolist() == [0, 3]
    assert test.tolist() == [1]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"split": "other.txt"}, r"'other.txt'}: this split list is not in the data"),
        ({"train": {"weather": [1]}}, "field 'weather' is none of subject"),
        ({"train": {"setup": "prime"}}, "'prime' is neither"),
        ({"train": {"subject": [99]}}, "leaves no training clip of 1"),
        ({"test": {}}, "is neither train"),
        ({"train": {}}, "is neither train"),
        ({"train": {"camera": [1]}, "test": {}}, "is neither train"),
        ({"train": {"camera": [1]}, "test": {"camera": [2]}}, "leaves no test clip of 1"),
        ({"train": {"camera": [1]}, "split": "a.txt"}, "is neither train"),
    ],
)
def test_bad_rules_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^protocol mine {{.*{message}"):
        split(named(["S001C001P001R001A001"]), rule, name="mine")


def test_the_sides_of_a_protocol_and_their_common_actions_are_counted() -> None:
    names = [f"S001C{c:03}P001R001A{a:03}" for c in (1, 2, 3) for a in (1, 2, 3)]
    clips = named(names)
    clips.label[:] = [0, 1, 2, 0, 1, 1, 3, 3, 2]
    rule = {"train": {"camera": [1, 2]}}
    assert check(clips, rule) == Sides(train=6, test=3, trained=3, common=1)
    clips.label[6:] = 3
    with pytest.raises(UserError, match=r"^protocol mine {.*} has no action in common between"):
        check(clips, rule, name="mine")
    with pytest.raises(UserError, match=r"^protocol mine .* leaves no training clip of 9"):
        check(clips, {"train": {"camera": [9]}}, name="mine")
