"""A dataset's order of joints: sources that number theirs otherwise, read by any format."""

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from clone import ROOT

from errors import UserError
from experiment.parameters import params
from skeletons.clips import store
from skeletons.preparing.job import BrokenClips, Dataset, prepare
from skeletons.sensors import KINECT_V1

RNG = np.random.default_rng(0)
BODY = RNG.normal(size=(6, 20, 3))  # in the order of the layout
ORDER = RNG.permutation(20).tolist()
WITH_OTHERS = [None, *ORDER[:7], None, *ORDER[7:], None, None]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    here = contextlib.nullcontext((ThreadPoolExecutor(1), 2))
    monkeypatch.setattr("skeletons.preparing.job.start_workers", lambda *_: here)


def recorded(joints):
    """The body as a source has it whose joints are these of the layout."""
    others = RNG.normal(size=(6, len(joints), 3))
    for place, joint in enumerate(joints):
        if joint is not None:
            others[:, place] = BODY[:, joint]
    return others


def arrays(folder, body):
    np.save(folder / "a.npy", body)
    (folder / "clips.csv").write_text("file,label\na,0\n")


def nwucla(folder, body):
    text = json.dumps({"label": 1, "skeletons": body.tolist()})
    (folder / "a01_s01_e01_v01.json").write_text(text)


def prepared(path, write, body, joints=()):
    folder = path / f"{write.__name__}-{len(joints)}"
    folder.mkdir(parents=True)
    write(folder, body)
    dataset = Dataset(write.__name__, KINECT_V1, 2, skeletons=[folder], joints=joints)
    prepare(path / "out.zarr", dataset, scratch=path / "scratch")
    return store.read(path / "out.zarr").frames


@pytest.mark.parametrize("joints", [ORDER, WITH_OTHERS], ids=["all", "with others"])
@pytest.mark.parametrize("write", [arrays, nwucla])
def test_another_order_makes_the_same_store(tmp_path, write, joints):
    frames = prepared(tmp_path / "other", write, recorded(joints), joints)
    assert (frames == prepared(tmp_path / "own", write, BODY)).all()


def test_arrays_make_the_store_that_the_source_s_own_format_makes(tmp_path):
    own = prepared(tmp_path / "own", nwucla, BODY)
    assert (prepared(tmp_path / "arrays", arrays, BODY) == own).all()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (arrays, r"its shape is \(6, 20, 3\), not \(frames, 24, 3\)"),
        (nwucla, "20 joints in frame 1 where the layout has 24"),
    ],
)
def test_recordings_have_the_joints_that_the_order_has(tmp_path, write, message):
    with pytest.raises(BrokenClips, match=message):
        prepared(tmp_path, write, BODY, WITH_OTHERS)


FAULTS = {
    "twice": (
        [0, *range(19)],
        "joint 0 of kinect-v1 is there 2 times, allowed: 0 to 19, each",
    ),
    "missing": (list(range(19)), "joint 19 of kinect-v1 is there 0 times, allowed"),
    "no joint": ([*range(20), 20], "kinect-v1 has no joint 20, allowed: 0 to 19, each once, and"),
    "only null": ([None] * 20, "joint 0 of kinect-v1 is there 0 times"),
}


@pytest.mark.parametrize(("joints", "message"), FAULTS.values(), ids=FAULTS)
def test_an_order_that_is_none_is_refused(tmp_path, joints, message):
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, arrays, BODY, joints)


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        *FAULTS.values(),
        ([*range(19), -1], "archives.joints.19 is -1, allowed: an integer, at least 0 or null"),
        ([*range(19), 1.5], "archives.joints.19 is 1.5, allowed: an integer, at least 0 or null"),
        (ORDER, "archives.joints is not for synthetic archives"),
    ],
)
def test_check_refuses_it_by_the_datasets_file(tmp_path, joints, message):
    values = yaml.safe_load((ROOT / "presets/nwucla.yaml").read_text())
    values["sources"]["nwucla"] = "synthetic"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    entry = yaml.safe_load((ROOT / "datasets/nwucla.yaml").read_text())
    entry["archives"]["joints"] = joints
    (tmp_path / "nwucla.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(params.InvalidParameter) as refused:
        params.read(tmp_path / "params.yaml", datasets=Path(tmp_path))
    (line,) = [line for line in str(refused.value).splitlines() if message in line]
    assert "nwucla.yaml: archives.joints" in line
