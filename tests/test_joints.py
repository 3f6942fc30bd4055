"""A dataset's order of joints, where its source numbers them otherwise."""

from pathlib import Path

import pytest
import yaml
from clone import ROOT
from specimens import person, prepared, specimen

from errors import UserError
from experiment.parameters import params, presets

ORDER = [*range(19, -1, -1)]
FAULTS = {
    "twice": (
        [0, *range(19)],
        "hip centre of kinect-v1 is there 2 times, allowed: names, or 0 to 19, each",
    ),
    "missing": (list(range(19)), "right foot of kinect-v1 is there 0 times, allowed"),
    "no joint": (
        [*range(20), 20],
        "kinect-v1 has no joint 20, allowed: names, or 0 to 19, each",
    ),
    "only null": ([None] * 20, "hip centre of kinect-v1 is there 0 times"),
}


@pytest.mark.parametrize(("joints", "message"), FAULTS.values(), ids=FAULTS)
def test_an_order_that_is_none_is_refused(tmp_path, joints, message):
    job = specimen("nwucla", tmp_path / "raw", person(0, 6, 1, 20), joints=tuple(joints))
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, job)


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        *FAULTS.values(),
        ([*range(19), -1], "has no joint -1, allowed"),
        ([*range(19), 1.5], "has no joint 1.5, allowed"),
        (ORDER, "archives.joints is not for synthetic archives"),
    ],
)
def test_check_refuses_it_by_the_datasets_file(tmp_path, joints, message):
    values = presets.values("nwucla")
    if joints == ORDER:
        values["sources"]["nwucla"] = "synthetic"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    entry = yaml.safe_load((ROOT / "datasets/nwucla.yaml").read_text())
    entry["archives"]["joints"] = joints
    (tmp_path / "nwucla.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(params.InvalidParameter) as refused:
        params.read(tmp_path / "params.yaml", datasets=Path(tmp_path))
    (line,) = [line for line in str(refused.value).splitlines() if message in line]
    assert "nwucla.yaml: archives.joints" in line
