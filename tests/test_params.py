"""Parameters are refused before anything runs: file, key, value and what is allowed."""

import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from clone import ROOT

from commands import params as table
from experiment.parameters import params, presets, schema
from experiment.parameters.schema import Dataset
from experiment.parameters.types import InvalidParameter
from learning.training import augment
from skeletons import formats, synthetic
from skeletons.formats import pku

DEFAULT = ROOT / "params.yaml"
DATASETS = sorted((ROOT / "datasets").glob("*.yaml"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as working directory, with the default's params.yaml and datasets/."""
    (tmp_path / "params.yaml").write_text(DEFAULT.read_text())
    (tmp_path / "datasets").mkdir()
    for file in DATASETS:
        (tmp_path / "datasets" / file.name).write_text(file.read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def change(file: str, changes: dict[str, Any]) -> None:
    """Sets keys, by dotted names, in a file of the project."""
    values = yaml.safe_load(Path(file).read_text())
    for name, value in changes.items():
        *path, last = name.split(".")
        place = values
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
    Path(file).write_text(yaml.safe_dump(values))


def mistakes() -> list[str]:
    with pytest.raises(InvalidParameter) as refused:
        params.read()
    return str(refused.value).splitlines()


@pytest.mark.parametrize("name", presets.names())
def test_the_presets_are_valid(name: str) -> None:
    values = presets.values(name)
    p = params.checked(values, datasets=ROOT / "datasets")
    assert p.model_dump(exclude_unset=True) == values


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_every_dataset_is_described_validly(path: Path, project: Path) -> None:
    change("params.yaml", {"sources": {path.stem: "archives"}} | NOTHING)
    found = params.read().datasets[path.stem]
    assert found.model_dump(exclude_unset=True) == yaml.safe_load(path.read_text())


NOTHING: dict[str, Any] = {"runs": {}, "transfers": {}, "ensembles": {}}
RUN = {"dataset": "ntu60", "protocol": "xset", "stream": "joint"}
PAIR = {"joint": "ntu60-xsub", "bone": "ntu60-xsub-bone", "motion": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain.queu": 512}, "pretrain.queu is unknown, allowed here: terms, projection, "),
        ({"views.spin": 1}, "views.spin is unknown, allowed here: crop, rotate, "),
        ({"pretrain.queue": None}, "pretrain.queue is null: should be a valid integer"),
        ({"pretrain.queue": "many"}, "pretrain.queue is 'many': should be a valid integer"),
        ({"pretrain.queue": True}, "pretrain.queue is True: should be a valid integer"),
        ({"pretrain.queue": 512.0}, "pretrain.queue is 512.0: should be a valid integer"),
        ({"pretrain.queue": 500}, "pretrain.queue is 500, allowed: a multiple of pretrain.batch,"),
        ({"pretrain.temperature": 0}, "pretrain.temperature is 0: should be greater than 0"),
        ({"pretrain.temperature": True}, "temperature is True: should be a valid number"),
        ({"pretrain.lr": float("nan")}, "pretrain.lr is nan: should be a finite number"),
        ({"pretrain.lr": float("inf")}, "pretrain.lr is inf: should be a finite number"),
        ({"pretrain.momentum": 1}, "momentum is 1: should be less than 1"),
        ({"pretrain.keep_epochs": [2, 999]}, "pretrain.keep_epochs has 999, allowed: up to "),
        ({"encoder.dropout": 1.0}, "dropout is 1.0: should be less than 1"),
        ({"pretrain.terms": []}, "pretrain.terms is [], allowed: one or more, each once"),
        ({"pretrain.terms": ["ti", "tt"]}, "terms.1 is 'tt': should be 'ti', 'si', 'it' or 'is'"),
        ({"pretrain.terms": ["ti", "ti"]}, "allowed: one or more, each once"),
        ({"pretrain.milestones": 5}, "milestones is 5: should be a valid list"),
        ({"pretrain.milestones": ["5"]}, "milestones.0 is '5': should be a valid integer"),
        ({"encoder.dim": 100}, "encoder.dim is 100, allowed: a multiple of encoder.heads, 8"),
        ({"encoder.width": 6}, "encoder.width is 6, allowed: a multiple of the number of temporal"),
        (
            {"views.temporal_mask.blocks": 5, "views.temporal_mask.masked": 1},
            "encoder.frames is 16, allowed: a multiple of views.temporal_mask.blocks, 5",
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
                "sources.nwucla": "archives",
                "runs.mine": {"dataset": "nwucla", "protocol": "xview", "stream": "joint"},
                "views.spatial_mask.joints": 21,
            },
            "views.spatial_mask.joints is 21, allowed: at most the 20 joints of kinect-v1",
        ),
        ({"views.spatial_mask.kind": "best"}, "kind is 'best': should be 'top' or 'neighbourhood'"),
        (
            {"views.temporal_mask.kind": "top"},
            "is 'top': should be 'uniform', 'energy' or 'threshold'",
        ),
        ({"views.temporal_mask.weight": 1}, "weight is 1: should be less than 1"),
        ({"finetune.scale.spread": 1}, "spread is 1: should be less than 1"),
        ({"views.flip.probability": 1.5}, "probability is 1.5: should be less than or equal to 1"),
        ({"views.crop.scale_min": 1, "views.crop.scale_max": 0.5}, "at most scale_max, 0.5"),
        ({"views.crop": 3}, "views.crop is 3: should be keys with values"),
        (
            {"runs.ntu60-xsub.protocol": "xset"},
            "runs.ntu60-xsub.protocol is 'xset', allowed: a protocol of ntu60: xsub, xview",
        ),
        ({"runs.ntu60-xsub.dataset": "ntu"}, "dataset is 'ntu', allowed: one of ntu60, pku2"),
        (
            {"supervised_runs.mine": RUN},
            "supervised_runs.mine.protocol is 'xset', allowed: a protocol of ntu60: xsub, xview",
        ),
        ({"pretrain.probe.every": 0}, "probe.every is 0: should be greater than or equal to 1"),
        (
            {"runs.ntu60-xsub.stream": "bones"},
            "stream is 'bones': should be 'joint', 'bone' or 'motion'",
        ),
        (
            {"sources.nothing": "synthetic"},
            f"sources.nothing: there is no datasets/nothing.yaml; there are {DATASETS[0].stem}, ",
        ),
        ({"transfers.ntu60-to-pku2.run": "x"}, "transfers.ntu60-to-pku2.run is 'x', allowed: one"),
        ({"transfers.ntu60-to-pku2.target": "pku1"}, "allowed: one of ntu60, pku2"),
        (
            {
                "sources.nwucla": "archives",
                "transfers.mine": {"run": "ntu60-xsub", "target": "nwucla", "protocol": "xview"},
            },
            "transfers.mine.target is 'nwucla', allowed: a dataset of layout kinect-v2",
        ),
        ({"ensembles.ntu60-xsub-3s.bone": "gone"}, "bone is 'gone', allowed: one of ntu60-xsub, "),
        (
            {"ensembles.ntu60-xsub-3s.bone": "ntu60-xsub-motion"},
            "allowed: a run of ntu60 xsub, stream bone",
        ),
        ({"ensembles.ntu60-xsub-3s.joint": 3}, "joint is 3: should be a valid string"),
        (
            {"ensembles.mine": {"joint": None, "bone": "ntu60-xsub-bone", "motion": None}},
            "ensembles.mine has a run of bone, allowed: of two or three streams",
        ),
        (
            {"ensembles.mine": {**PAIR, "bone": "ntu60-xsub"}},
            "ensembles.mine.bone is 'ntu60-xsub', allowed: a run of ntu60 xsub, stream bone",
        ),
        (
            {"ensembles.mine": {**PAIR, "weights": {"joint": 0.6, "motion": 0.4}}},
            "ensembles.mine.weights has joint, motion, allowed: joint, bone",
        ),
        *(
            (
                {"ensembles.mine": {**PAIR, "weights": {"joint": 0.6, "bone": weight}}},
                f"ensembles.mine.weights.bone is {shown}: should be {wanted}",
            )
            for weight, shown, wanted in (
                (0, "0", "greater than 0"),
                (-1, "-1", "greater than 0"),
                ("3", "'3'", "a valid number"),
                (None, "null", "a valid number"),
                (True, "True", "a valid number"),
                (float("nan"), "nan", "a finite number"),
                (1e308, "1e+308", "less than or equal to 1000000"),
            )
        ),
        ({"sources.pku2": 3}, "sources.pku2 is 3: should be a valid string"),
        ({"runs": 3}, "runs is 3: should be keys with values"),
        (
            {"semi.fractions": [0.1, 1.1]},
            "semi.fractions.1 is 1.1: should be less than or equal to 1",
        ),
        ({"semi.balanced": "yes"}, "semi.balanced is 'yes': should be a valid boolean"),
        ({"prepare.keepbits": 24}, "keepbits is 24: should be less than or equal to 23"),
        ({"synthetic.frames": [60, 30]}, "allowed: two integers, the smaller first"),
        ({"synthetic.ntu.setups": 100}, "setups is 100: should be less than or equal to 99"),
        ({"synthetic": None}, "synthetic is null: should be keys with values"),
        ({"seed": 2**32}, "seed is 4294967296: should be less than 4294967296"),
    ],
)
def test_a_value_that_is_not_allowed(project: Path, changes: Any, message: str) -> None:
    change("params.yaml", changes)
    said = mistakes()  # what contradicts the value is said of other keys too
    assert any(message in line for line in said)
    assert all(line.startswith("params.yaml: ") for line in said)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "bvh"}, f"format is 'bvh', allowed: one of {', '.join(formats.NAMES)}"),
        ({"format": "bvh"}, "your own goes into skeletons/formats/bvh.py; `git add` a new"),
        (
            {"layout": "kinect"},
            "layout: there is no sensor 'kinect', allowed: azure-kinect, h36m",
        ),
        (
            {"layout": "kinect"},
            "; your own goes into skeletons/sensors/kinect.yaml; `git add` a new file",
        ),
        ({"archives.leave_out": "mine.txt"}, "allowed: a file in datasets/lists, which DVC"),
        ({"archives.lables": []}, "archives.lables is unknown, allowed here: skeletons, labels, "),
        ({"archives.md5": {"a.zip": "0"}}, "archives.md5 is 'a.zip', allowed: one of nturgbd_"),
        (
            {"protocols.xsub": {"split": "mine.txt"}},
            "protocols.xsub.split is 'mine.txt', allowed: one of none",
        ),
        ({"protocols.xsub.split": "mine.txt"}, "protocols.xsub has split, and train or test"),
        ({"protocols.xsub": {}}, "protocols.xsub has neither train nor split"),
        ({"protocols.xsub.train": {"hat": [1]}}, "protocols.xsub.train: 'hat' is none of subject"),
        ({"protocols.xsub.train": {"setup": "all"}}, "setup is 'all', allowed: a list of integers"),
        ({"protocols.xsub.train": {"setup": ["a"]}}, "setup is ['a'], allowed: a list of integers"),
        ({"protocols.xsub.train": {"room": []}}, "room is [], allowed: a list of words, a list of"),
        (
            {"protocols.xsub.train": {"room": ["a", 1]}},
            "room is ['a', 1], allowed: a list of words",
        ),
        ({"protocols.xsub.train": {"setup": [True]}}, "[True], allowed: a list of integers"),
        (
            {"protocols.xsub.actions": []},
            "protocols.xsub.actions is []: List should have at least 1",
        ),
        ({"protocols.xsub.actions": [0]}, "protocols.xsub.actions.0 is 0: should be greater than"),
        (
            {"protocols.xsub.actions": [1, 61]},
            "protocols.xsub.actions is [1, 61], allowed: 1 to 60",
        ),
        ({"protocols.xsub.actions": [2, 2]}, "protocols.xsub.actions is [2, 2], allowed: 1 to 60"),
        ({"protocols.xsub.test": {}}, "protocols.xsub.test: no field is named"),
        ({"protocols.xsub.test": 3}, "protocols.xsub.test is 3: should be keys with values"),
        ({"classes": 0}, "classes is 0: should be greater than or equal to 1"),
        ({"classes": 59}, "names has 60, 60 of them different, allowed: one for each of the 59"),
        ({"names": ["walk"] * 60}, "names has 60, 1 of them different, allowed: one for each of"),
        ({"archives.md5": {"a.zip": 3}}, "archives.md5.a.zip is 3: should be a valid string"),
        ({"names": ["walk", 3]}, "names.1 is 3: should be a valid string"),
    ],
)
def test_a_value_of_a_dataset_that_is_not_allowed(
    project: Path, changes: Any, message: str
) -> None:
    change("datasets/ntu60.yaml", changes)
    assert any("datasets/ntu60.yaml: " in line and message in line for line in mistakes())


@pytest.mark.parametrize(
    "name",
    [
        *("lr0.1", "None", "my run", "it's", "a&b", "x@y", "a..b", "../../x", "$(touch hacked)"),
        *("42", 42, None, "--help", "-rf"),
    ],
)
@pytest.mark.parametrize("section", ["runs", "transfers", "ensembles", "sources", "protocols"])
def test_names_that_dvc_or_a_shell_would_take_apart_are_refused(
    project: Path, section: str, name: Any
) -> None:
    if section == "protocols":
        values = yaml.safe_load(Path("datasets/ntu60.yaml").read_text())
        values["protocols"][name] = {"train": {"subject": "odd"}}
        Path("datasets/ntu60.yaml").write_text(yaml.safe_dump(values))
    else:
        values = yaml.safe_load(Path("params.yaml").read_text())
        values[section][name] = next(iter(values[section].values()))
        Path("params.yaml").write_text(yaml.safe_dump(values))
        if section == "sources":
            Path("datasets", str(name).replace("/", "_") + ".yaml").touch()
    assert any("a name has letters, digits, - and _" in line for line in mistakes())


@pytest.mark.parametrize("name", ["lauf-äöü", "走る", "a_1", "1a", "yes"])
def test_names_of_letters_of_any_script_are_allowed(project: Path, name: str) -> None:
    entry = f"supervised_runs:\n  {name}: {RUN | {'protocol': 'xsub'}}"
    text = DEFAULT.read_text().replace("supervised_runs: {}", entry)
    Path("params.yaml").write_text(text)
    assert list(params.read().supervised_runs) == [name]


def test_names_are_quoted_in_commands_all_the_same() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    commands = [stage["do"]["cmd"] for stage in stages.values() if "foreach" in stage]
    assert len(commands) > 10
    assert not [command for command in commands if not command.endswith(" '${key}'")]
    for stage in stages.values():
        assert "${key}" not in stage.get("cmd", "")


def test_all_mistakes_of_all_files_are_said_at_once(project: Path) -> None:
    change("params.yaml", {"linear.lr": -1, "seed": "one", "views.spin": 3})
    change("datasets/ntu60.yaml", {"classes": "sixty"})
    said = mistakes()
    assert [line.split(" is ")[0] for line in said] == [
        "params.yaml: seed",
        "params.yaml: views.spin",
        "params.yaml: linear.lr",
        "datasets/ntu60.yaml: classes",
    ]


def test_a_key_that_is_missing(project: Path) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    del values["linear"]["lr"]
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert mistakes() == ["params.yaml: linear.lr is missing"]
    Path("params.yaml").write_text("seed: [1")
    (line,) = mistakes()
    assert line.startswith("params.yaml: not YAML: ")
    Path("params.yaml").write_text("")
    assert mistakes() == ["params.yaml: the file is null: should be keys with values"]


@pytest.mark.parametrize(
    "text",
    [
        *("[", "a: !!int x", "a: !!timestamp x", "a: !!float x", "? [a]\n: b\n? {c: d}\n: e"),
        *(
            "&a [*a]",
            "seed: &a [*a]",
            "runs: {2020-01-01: {}, ~: {}, [1]: {}}",
            "a: \x00",
            "--- 1\n--- 2",
        ),
        *("seed: 0x" + "f" * 5000, "seed: " + "9" * 5000, "sources: [ntu60]", "[" * 3000, "\xff"),
        *(
            '"a\\nb": 1',
            'runs: {"a\\nb": 1}',
            'seed: "a\\nb"',
            "pretrain: {lr: 0x" + "f" * 500 + "}",
        ),
        *("%YAML 1.1\n---\nseed: 0100", "# Mine\n\n%TAG ! x:\n--- {}", "\ufeff%YAML 1.2\n--- {}"),
    ],
)
def test_any_yaml_is_refused_in_lines(project: Path, text: str) -> None:
    Path("params.yaml").write_text(text, encoding="latin-1" if text == "\xff" else "utf-8")
    assert all(line.startswith("params.yaml: ") for line in mistakes())
    if "%" in text:
        assert "begins with %" in mistakes()[0]


def test_exponents_are_numbers_as_dvc_reads_them(project: Path) -> None:
    text = DEFAULT.read_text()
    Path("params.yaml").write_text(text.replace("weight_decay: 0.0001", "weight_decay: 1e-4"))
    assert params.read().pretrain.weight_decay == 1e-4


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(InvalidParameter, match="there is no 'mine' in: ntu60-xsub, "):
        params.read(DEFAULT).runs["mine"]


def test_options_are_those_of_the_library() -> None:
    assert options(schema.Prepare, "interval") == pku.INTERVALS
    for name in synthetic.NAMES:
        counts = {f"{name}.{count}" for count in synthetic.load(name).COUNTS}
        assert counts == {k for k in schema.keys(schema.Synthetic) if k.startswith(f"{name}.")}


def test_fine_tuning_is_augmented_as_asked_and_by_nothing_else(project: Path) -> None:
    changes = {"turn": {"probability": 1.0, "yaw": 45.0, "tilt": 10.0}}
    changes |= {"scale": {"probability": 0.5, "spread": 0.2}, "drop_axis": {"probability": 0.1}}
    change("params.yaml", {f"finetune.{name}": value for name, value in changes.items()})
    crop = yaml.safe_load(Path("params.yaml").read_text())["finetune"]["crop"]
    asked = augment.Augmentations.of({"crop": crop, **changes})
    assert augment.Augmentations.of(params.read().finetune.views) == asked


def options(section: type[schema.Section], name: str) -> tuple[Any, ...]:
    return typing.get_args(section.model_fields[name].annotation)


def comments(text: str) -> dict[str, str]:
    """The comment of each key of a file, by dotted name, where it first stands: behind it, or above
    a key whose entries an experiment may all remove (DVC then writes a comment behind it wrongly).
    """
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above = ""
    for line in text.splitlines():
        content, _, comment = line.partition("#")
        name, colon, _ = content.strip().partition(":")
        if not colon:
            above = comment
            continue
        comment, above = comment or above, ""
        depth = len(content) - len(content.lstrip())
        path = [*(part for part in path if part[0] < depth), (depth, name)]
        found.setdefault(".".join(part for _, part in path), comment.strip())
    return found


def bundled(file: Path) -> bool:
    """True if the dataset is one of the project's, which docs/bring.md lists, not a user's own."""
    return f"| `{file.stem}` |" in (ROOT / "docs/bring.md").read_text()


@pytest.mark.parametrize("file", [*filter(bundled, DATASETS)], ids=lambda path: path.stem)
def test_every_key_of_a_dataset_has_its_meaning_as_a_comment(file: Path) -> None:
    said = comments(file.read_text())
    fields = schema.keys(Dataset)
    for name in {n for n in said if n in fields}:
        assert said[name] == fields[name]["description"]


def test_the_table_of_parameters_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / "docs/parameters.md").read_text() == table.page()


def test_a_stage_starts_without_waiting_for_torch() -> None:
    stages = ", ".join(f"stages.{stage}" for stage in ("check", "synthetic", "raw", "prepare"))
    code = f"import sys, {stages}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_stage_says_what_it_is_called_with() -> None:
    command = [sys.executable, "-m", "stages.prepare"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "usage: python -m stages.prepare dataset\n")


def test_a_stage_refuses_before_it_does_anything(project: Path) -> None:
    change("params.yaml", {"pretrain.momentum": 9})
    done = subprocess.run(
        [sys.executable, "-m", "stages.pretrain", "ntu60-xsub"],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "pretrain ntu60-xsub: params.yaml: pretrain.momentum is 9: should be less than 1\n"
    )
    assert sorted(path.name for path in project.iterdir()) == ["datasets", "params.yaml"]
