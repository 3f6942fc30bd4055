"""Parameters are refused before anything runs, by their name, their value and what is allowed."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment import params
from learning import contrast, views
from skeletons import protocols
from skeletons.reading import formats
from skeletons.reading.formats import pku

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_project_s_own_files_are_valid(path: Path) -> None:
    assert params.read(path) == yaml.safe_load(path.read_text())


def keys(tree: Any, schema: Any, name: str = "") -> set[str]:
    """Dotted names of a file's keys, without the names that a user gives to entries."""
    if not isinstance(schema, dict):
        return {name}
    return {key for k, part in schema.items() for key in keys(tree[k], part, f"{name}.{k}")}


def test_all_scales_have_the_same_keys() -> None:
    here, *others = (keys(yaml.safe_load(path.read_text()), params.SCHEMA) for path in FILES)
    assert all(other == here for other in others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrain.queu": 512}, "pretrain.queu is unknown: allowed here: terms, projection, "),
        ({"views.spin": 1}, "views.spin is unknown: allowed here: crop, rotate, "),
        ({"pretrain.queue": None}, "pretrain.queue is null, allowed: an integer, at least 1"),
        ({"pretrain.queue": "many"}, "pretrain.queue is 'many', allowed: an integer, at least 1"),
        ({"pretrain.queue": True}, "pretrain.queue is True, allowed: an integer, at least 1"),
        ({"pretrain.queue": 512.0}, "pretrain.queue is 512.0, allowed: an integer, at least 1"),
        ({"pretrain.queue": 500}, "pretrain.queue is 500, allowed: a multiple of pretrain.batch,"),
        ({"pretrain.temperature": 0}, "pretrain.temperature is 0, allowed: a number above 0"),
        ({"pretrain.lr": float("nan")}, "pretrain.lr is nan, allowed: a number above 0"),
        ({"pretrain.momentum": 1.01}, "pretrain.momentum is 1.01, allowed: a number from 0 to 1"),
        ({"pretrain.terms": []}, "pretrain.terms is [], allowed: one or more of ti, si, it, is"),
        ({"pretrain.terms": ["ti", "tt"]}, "allowed: a list: any of ti, si, it, is"),
        ({"pretrain.terms": ["ti", "ti"]}, "allowed: one or more of ti, si, it, is, each once"),
        ({"pretrain.milestones": 5}, "pretrain.milestones is 5, allowed: a list: integers, at le"),
        ({"encoder.dim": 100, "encoder.heads": 8}, "encoder.dim is 100, allowed: a multiple of "),
        ({"encoder.width": 6}, "encoder.width is 6, allowed: a multiple of the number of temporal"),
        (
            {"views.temporal_mask.blocks": 5, "views.temporal_mask.masked": 1},
            "encoder.frames is 32, allowed: a multiple of views.temporal_mask.blocks, 5",
        ),
        (
            {"views.temporal_mask.masked": 9},
            "views.temporal_mask.masked is 9, allowed: at most views.temporal_mask.blocks, 8",
        ),
        (
            {"views.spatial_mask.joints": 26},
            "views.spatial_mask.joints is 26, allowed: at most the 25 joints of kinect-v2",
        ),
        (
            {
                "sources.nwucla": "synthetic",
                "runs.mine": {"dataset": "nwucla", "protocol": "xview", "stream": "joint"},
                "views.spatial_mask.joints": 21,
            },
            "views.spatial_mask.joints is 21, allowed: at most the 20 joints of kinect-v1",
        ),
        ({"views.spatial_mask.kind": "best"}, "allowed: one of top, neighbourhood"),
        ({"views.flip.probability": 1.5}, "views.flip.probability is 1.5, allowed: a number from"),
        ({"views.crop.scale_min": 1, "views.crop.scale_max": 0.5}, "at most scale_max 0.5"),
        ({"views.crop": 3}, "views.crop is 3, allowed: keys with values"),
        (
            {"runs.ntu60-xsub.protocol": "xset"},
            "runs.ntu60-xsub.protocol is 'xset', allowed: a protocol of ntu60: xsub, xview",
        ),
        ({"runs.ntu60-xsub.dataset": "ntu"}, "dataset is 'ntu', allowed: one of ntu60, pku2"),
        (
            {"supervised_runs.mine": {"dataset": "ntu60", "protocol": "xset", "stream": "joint"}},
            "supervised_runs.mine.protocol is 'xset', allowed: a protocol of ntu60: xsub, xview",
        ),
        ({"pretrain.probe.every": 0}, "probe.every is 0, allowed: an integer, at least 1 or null"),
        ({"runs.ntu60-xsub.stream": "bones"}, "allowed: one of joint, bone, motion"),
        ({"sources.nothing": "synthetic"}, "sources is 'nothing', allowed: a dataset: ntu120, "),
        ({"transfers.ntu60-to-pku2.run": "x"}, "transfers.ntu60-to-pku2.run is 'x', allowed: one"),
        ({"transfers.ntu60-to-pku2.target": "pku1"}, "allowed: one of ntu60, pku2"),
        (
            {
                "sources.nwucla": "synthetic",
                "transfers.mine": {"run": "ntu60-xsub", "target": "nwucla", "protocol": "xview"},
            },
            "transfers.mine.target is 'nwucla', allowed: a dataset of layout kinect-v2",
        ),
        ({"datasets.ntu60.leave_out": "mine.txt"}, "allowed: a file in datasets/lists, which DVC"),
        (
            {"ensembles.ntu60-xsub-3s.bone": "ntu60-xsub-motion"},
            "allowed: a run of ntu60 xsub, stream bone",
        ),
        (
            {"datasets.pku2.protocols.xsub.split": "mine.txt"},
            "is 'mine.txt', allowed: one of datasets.pku2.archives.splits: cross_subject_v2.txt",
        ),
        ({"datasets.ntu60.protocols.xsub.train": {"hat": [1]}}, "is 'hat', allowed: one of subj"),
        ({"datasets.ntu60.protocols.xsub.train": {"setup": "all"}}, "allowed: a list of integers"),
        (
            {"datasets.nwucla.protocols.val.test": {"camera": "all"}},
            "protocols.val.test.camera is 'all', allowed: a list of integers, even or odd",
        ),
        ({"datasets.nwucla.protocols.val.test": 3}, "protocols.val.test is 3, allowed: {field: "),
        ({"datasets.nwucla.protocols.val.test": None}, "allowed: train: {field: values}, perhaps "),
        ({"datasets.ntu60.layout": "kinect"}, "allowed: one of kinect-v2, kinect-v1"),
        ({"semi.fractions": [0.1, 1.1]}, "semi.fractions is [0.1, 1.1], allowed: a list: numbers"),
        ({"semi.balanced": "yes"}, "semi.balanced is 'yes', allowed: true or false"),
        ({"prepare.keepbits": 24}, "allowed: an integer from 1 to 23 or null"),
        ({"synthetic.frames": [60, 30]}, "allowed: two integers, the smaller first"),
        ({"synthetic": None}, "synthetic is null, allowed: keys with values"),
        (
            {"datasets.ntu60.format": "bvh"},
            f"datasets.ntu60.format is 'bvh', allowed: one of {', '.join(formats.NAMES)}",
        ),
        (
            {"datasets.pku2.synthetic": {"recordings": 4}},
            "datasets.pku2.synthetic is {'recordings': 4}, allowed: the numbers of format pku: "
            "recordings, instances",
        ),
        ({"datasets.pku2.synthetic": None}, "datasets.pku2.synthetic is null, allowed: the num"),
        (
            {"datasets.ntu60.synthetic.instances": 8},
            "'setups': 1}, allowed: the numbers of format ntu: setups, replications",
        ),
        (
            {"datasets.ntu60.synthetic.setups": 100},
            "datasets.ntu60.synthetic.setups is 100, allowed: an integer from 1 to 99",
        ),
    ],
)
def test_a_value_that_is_not_allowed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    p = yaml.safe_load(FILES[0].read_text())
    p["encoder"] |= {"frames": 32, "dim": 128, "heads": 8}
    p["views"]["temporal_mask"] |= {"blocks": 8, "masked": 3}
    p["pretrain"] |= {"batch": 32, "queue": 512}
    for name, value in change.items():
        *path, last = name.split(".")
        place = p
        for key in path:
            place = place[key]
        place[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(p))
    with pytest.raises(params.InvalidParameter) as refused:
        params.read(file)
    said = str(refused.value)
    assert message in said
    assert said.startswith(str(file))
    assert "\n" not in said


def test_a_dataset_that_is_not_made_up_needs_no_numbers_for_it(tmp_path: Path) -> None:
    p = yaml.safe_load(FILES[0].read_text())
    p["sources"]["ntu60"] = "archives"
    p["datasets"]["ntu60"]["synthetic"] = None
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(p))
    assert params.read(file) == p


def test_a_missing_parameter(tmp_path: Path) -> None:
    p = yaml.safe_load(FILES[0].read_text())
    del p["linear"]["lr"]
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(p))
    with pytest.raises(params.InvalidParameter, match=r"linear\.lr is missing"):
        params.read(file)
    file.write_text("seed: [1")
    with pytest.raises(params.InvalidParameter, match=r"params\.yaml: not YAML: .* line 1"):
        params.read(file)


def test_exponents_are_numbers_as_dvc_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    text = FILES[0].read_text()
    file.write_text(text.replace("  weight_decay: 0.0001", "  weight_decay: 1e-4"))
    assert params.read(file)["pretrain"]["weight_decay"] == 1e-4


def test_a_name_that_is_not_there() -> None:
    p = params.read(FILES[0])
    with pytest.raises(params.InvalidParameter, match="runs has no 'mine': it has ntu60-xsub"):
        p["runs"]["mine"]


def test_options_are_those_of_the_library() -> None:
    assert views.STREAMS == params.STREAMS
    assert tuple(contrast.TERMS) == params.TERMS
    assert protocols._FIELDS == params.FIELDS
    assert params.SCHEMA["views"]["spatial_mask"]["kind"].options == views.SPATIAL_MASKS
    assert set(pku.INTERVALS) == set(params.SCHEMA["prepare"]["interval"].options)


def test_every_parameter_is_in_the_table() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in params.table().splitlines()
    ]
    assert {len(row) for row in rows} == {6}
    described = {name.strip("`"): meaning for name, *_, meaning in rows}
    assert all(described.values())
    plain = {name[1:] for name in keys(params.SCHEMA, params.SCHEMA)}
    named = {"sources", "runs", "supervised_runs", "transfers", "ensembles", "datasets"}
    assert plain - named <= set(described)
    assert named == plain - set(described)


def test_reading_parameters_does_not_wait_for_torch() -> None:
    code = "import sys; from experiment import params; params.read(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_stage_says_what_it_is_called_with() -> None:
    command = [sys.executable, "-m", "stages.prepare"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "usage: python -m stages.prepare dataset\n")


def test_a_stage_refuses_before_it_does_anything(tmp_path: Path) -> None:
    p = yaml.safe_load(FILES[0].read_text())
    p["pretrain"]["momentum"] = 9
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(p))
    done = subprocess.run(
        [sys.executable, "-m", "stages.pretrain", "ntu60-xsub"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "pretrain ntu60-xsub: params.yaml: pretrain.momentum is 9, allowed: a number from 0 to 1\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]
