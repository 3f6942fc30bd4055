"""Protocols: which clips a rule trains and tests on, and rules that are mistaken."""

import dataclasses

import numpy as np
import pytest

from skeletons.layout import LAYOUTS
from skeletons.protocols import split
from skeletons.store import FIELDS, Clips

# a clip for each subject 1 to 4, camera 1 to 3 and setup 1 to 2
SUBJECT, CAMERA, SETUP = (
    field.reshape(-1) for field in np.meshgrid(range(1, 5), range(1, 4), (1, 2), indexing="ij")
)
COUNT = len(SUBJECT)


@pytest.fixture(scope="module")
def clips():
    zeros = {field: np.zeros(COUNT, np.int32) for field in FIELDS}
    side = np.where(SUBJECT == 1, 1, np.where(SUBJECT == 2, 0, -1)).astype(np.int8)
    empty = Clips(
        frames=np.zeros((COUNT, 2, 25, 3), np.float32),
        offsets=np.arange(COUNT + 1),
        name=np.array([str(i) for i in range(COUNT)]),
        splits={"split.txt": side},
        layout=LAYOUTS["kinect-v2"],
        classes=2,
        **zeros,
    )
    return dataclasses.replace(empty, subject=SUBJECT, camera=CAMERA, setup=SETUP)


@pytest.mark.parametrize(
    ("rule", "train"),
    [
        ({"train": {"subject": [1, 3]}}, (SUBJECT == 1) | (SUBJECT == 3)),
        ({"train": {"camera": [2, 3]}}, CAMERA > 1),
        ({"train": {"setup": "even"}}, SETUP == 2),
        ({"train": {"setup": "odd", "camera": [1]}}, (SETUP == 1) & (CAMERA == 1)),
    ],
)
def test_clips_that_agree_train_and_the_others_test(clips, rule, train):
    found = split(clips, rule)
    assert found[0].tolist() == np.flatnonzero(train).tolist()
    assert found[1].tolist() == np.flatnonzero(~train).tolist()


def test_clips_on_neither_side_of_a_list_are_in_neither(clips):
    train, test = split(clips, {"split": "split.txt"})
    assert train.tolist() == np.flatnonzero(SUBJECT == 1).tolist()
    assert test.tolist() == np.flatnonzero(SUBJECT == 2).tolist()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"split": "other.txt"}, "'other.txt' is not in the data, which has: split.txt"),
        ({"train": {"label": [1]}}, "field 'label' is none of subject, camera, setup, replication"),
        ({"train": {"setup": "prime"}}, "'prime' is neither a list, 'even' nor 'odd'"),
        ({"train": {"subject": [9]}}, "leaves no training clip of 24"),
        ({"train": {"subject": [1, 2, 3, 4]}}, "leaves no test clip of 24"),
        ({"test": {"subject": [1]}}, "is neither train: .* nor split: file"),
    ],
)
def test_a_mistaken_rule_is_refused(clips, rule, message):
    with pytest.raises(ValueError, match=message):
        split(clips, rule)
