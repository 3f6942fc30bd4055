"""The README's commands and snippets run, here or elsewhere, and print what it shows.

A command is a line of a block `sh`, a line after `$` of a block `console`, or code within a
sentence that begins with a program's name.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from clone import ROOT, Clone

from experiment import params

README = (ROOT / "README.md").read_text()
PARTS = re.compile(
    r"^```(?P<language>\w*)\n(?P<block>.*?)^```$"
    r"|`(?P<code>(?:LAUNCH=|(?:make|dvc|git|python|cp|source)\b(?![.-]))[^`]*)`",
    re.DOTALL | re.MULTILINE,
)
# Commands that another test runs, or CI.
ELSEWHERE = {
    ".ci/run": ["make lint", "make test"],
    "tests/test_readme.py::test_benchmarks_start": ["make bench"],
    "tests/test_readme.py::test_one_row_of_the_papers_table": [
        "cp presets/paper.yaml params.yaml",
        "dvc repro linear@ntu60-xsub",
    ],
    "tests/test_readme.py::test_the_preset_of_nw_ucla": ["cp presets/nwucla.yaml params.yaml"],
    "tests/test_readme.py::test_the_sweep_of_nw_ucla": [
        "dvc exp run -S runs.nwucla-xview.protocol=val -S '~runs.nwucla-xview-bone' "
        "-S '~runs.nwucla-xview-motion' -S '~ensembles.nwucla-xview-3s' "
        "-S '~supervised_runs.nwucla-xview'",
        "dvc exp run --queue -S 'pretrain.temperature=0.1,0.35'",
    ],
    "tests/test_readme.py::test_several_processes": [
        'LAUNCH="torchrun --nproc-per-node=2" dvc repro'
    ],
    "tests/test_sweeps.py::test_a_grid_through_the_queue": [
        "dvc exp run --queue -S views.spatial_mask.probability=0.5 "
        "-S 'pretrain.temperature=0.07,0.1,0.2' -S 'views.spatial_mask.joints=4,8,12'",
        "dvc queue start",
    ],
    "tests/test_sharing.py::test_a_colleague_fetches_only_what_a_changed_probe_needs": [
        "git clone <repository> scd-net && cd scd-net",
        "dvc repro --allow-missing",
        "dvc repro --pull --allow-missing | grep Running",
    ],
    "tests/test_sharing.py::test_a_colleague_pulls_everything_but_the_archives": ["dvc pull"],
    "tests/test_sharing.py::test_weights_alone": [
        "dvc get <repository> data/weights/ntu60-xsub.pt",
        "dvc artifacts get <repository> encoder",
    ],
    "tests/test_sharing.py::test_a_colleague_with_the_archives_prepares_the_same_bytes": [
        "dvc repro prepare@ntu60"
    ],
}
REFUSED = {"dvc exp run -S runs.ntu60-xsub.protocol=xset"}


def commands(text: str) -> dict[str, str]:
    """The commands of a page in their order, and the output that it shows of them."""
    found: dict[str, str] = {}
    for part in PARTS.finditer(text):
        if part["code"]:
            found.setdefault(" ".join(part["code"].split()), "")
        elif part["language"] == "sh":
            lines = re.sub(r"(^|\s)#.*", "", part["block"].replace("\\\n", " "), flags=re.MULTILINE)
            for line in filter(str.strip, lines.splitlines()):
                found.setdefault(" ".join(line.split()), "")
        elif part["language"] == "console":
            for example in part["block"].removeprefix("$ ").split("\n$ "):
                command, _, output = example.partition("\n")
                found[command] = output
    return found


def blocks(language: str) -> list[str]:
    return [part["block"] for part in PARTS.finditer(README) if part["language"] == language]


def words(text: str) -> set[str]:
    """What is neither a number, a name that DVC made up nor a line of a table."""
    made_up = r"\b[0-9a-f]{7}\b|'[a-z]+-[a-z]+'|[─└├]+|[-+]?\d+(\.\d+)?(?=\s|$)"
    return set(re.sub(made_up, " ", text).split())


@pytest.fixture(scope="module")
def small(clone: Clone) -> Clone:
    """The finished clone after `make`, with one run, so that an experiment takes seconds."""
    p = yaml.safe_load((clone.path / "params.yaml").read_text())
    p |= {"runs": {"ntu60-xsub": p["runs"]["ntu60-xsub"]}, "transfers": {}, "ensembles": {}}
    (clone.path / "params.yaml").write_text(yaml.safe_dump(p, sort_keys=False))
    assert clone.ran("repro") == {"check", "report"}
    clone.git("commit", "-qam", "One run")
    (clone.path / ".venv").mkdir()
    (clone.path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (clone.path / ".venv/installed").touch()
    return clone


def run(clone: Clone, command: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command in a clone; both outputs in one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command],
        cwd=clone.path,
        env={**os.environ, "PATH": path, "BROWSER": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_command_runs_and_prints_what_is_shown(small: Clone, tmp_path: Path) -> None:
    elsewhere = {command for those in ELSEWHERE.values() for command in those}
    for command, shown in commands(README).items():
        if command in elsewhere:
            continue
        done = run(small, command.replace("/mnt/shared", str(tmp_path)))
        assert (done.returncode != 0) == (command in REFUSED), f"{command}\n{done.stdout}"
        # Tables have the results that differ, which at this scale are others.
        tables = small.dvc("metrics", "diff", "--all") + Clone(ROOT).dvc("metrics", "show")
        assert words(shown) <= words(done.stdout + tables), command


def test_commands_that_run_elsewhere_do() -> None:
    for place, those in ELSEWHERE.items():
        assert set(those) <= set(commands(README)), "no longer in the README"
        path, _, test = place.partition("::")
        text = (ROOT / path).read_text()
        assert f"def {test}(" in text if test else set(those) <= set(text.splitlines())


def would_run(clone: Clone, preset: str, *targets: str) -> set[str]:
    """The stages that `dvc repro` runs from nothing after a preset is copied over params.yaml."""
    before = (clone.path / "params.yaml").read_text()
    try:
        run(clone, f"cp presets/{preset}.yaml params.yaml")
        return clone.ran("repro", "--dry", "--force", *targets)
    finally:
        (clone.path / "params.yaml").write_text(before)


def test_the_preset_of_nw_ucla(clone: Clone) -> None:
    run = "nwucla-xview"
    results = {f"semi@{run}-bone", f"ensemble@{run}-3s", f"supervised@{run}", f"retrieval@{run}"}
    assert results <= would_run(clone, "nwucla")


def test_the_sweep_of_nw_ucla(clone: Clone) -> None:
    """What its commands queue; the experiments themselves take minutes."""
    setting, sweep = ELSEWHERE["tests/test_readme.py::test_the_sweep_of_nw_ucla"]
    params_file = clone.path / "params.yaml"
    before = params_file.read_text()
    run(clone, "cp presets/nwucla.yaml params.yaml")
    queued = []
    try:
        for command in (setting.replace("exp run", "exp run --queue"), sweep):
            done = run(clone, command)
            assert done.returncode == 0, done.stdout
            params_file.write_text(clone.git("show", "refs/exps/celery/stash:params.yaml"))
            queued.append(params.read(params_file))
    finally:
        clone.dvc("queue", "remove", "--all")
        params_file.write_text(before)
    val = {"dataset": "nwucla", "protocol": "val", "stream": "joint"}
    for p in queued:
        assert p["runs"] == {"nwucla-xview": val}
        assert (p["ensembles"], p["supervised_runs"]) == ({}, {})
    assert queued[-1]["pretrain"]["temperature"] == 0.35


def test_one_row_of_the_papers_table(clone: Clone) -> None:
    stages = would_run(clone, "paper", "linear@ntu60-xsub")
    chain = ["raw@ntu60", "prepare@ntu60", "pretrain@ntu60-xsub", "embed@ntu60-xsub"]
    assert stages == {"check", *chain, "linear@ntu60-xsub"}


def test_several_processes(small: Clone) -> None:
    weights = small.path / "data/weights/ntu60-xsub.pt"
    before = weights.stat().st_mtime_ns
    command = 'LAUNCH="torchrun --nproc-per-node=2" dvc repro'
    done = run(small, f"{command} --single-item --force pretrain@ntu60-xsub")
    assert done.returncode == 0, done.stdout
    assert weights.stat().st_mtime_ns > before


def test_benchmarks_start() -> None:
    lines = run(Clone(ROOT), "make --dry-run --old-file .venv/installed bench").stdout
    prepare, training = re.findall("python -m .*", lines)
    assert "clips/s" in run(Clone(ROOT), f"{prepare} 20 1000").stdout
    assert run(Clone(ROOT), training.replace("-m ", "-c 'import ") + "'").returncode == 0


@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(clone: Clone, code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=clone.path, check=True)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_parameters_are_valid_as_an_entry(text: str, tmp_path: Path) -> None:
    p = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, entries in yaml.safe_load(text).items():
        p[section] |= entries
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(p))
    params.read(tmp_path / "params.yaml")


def test_extras_and_files_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"pip install '\.\[(\w+)\]'", README)
    assert named
    assert set(named) <= set(project["optional-dependencies"])
    links = re.findall(r"\]\(([^):]+)\)", README)
    code = re.findall(r"`((?:stages|model|skeletons|tests|presets)/[\w./-]+)`", README)
    assert [name for name in links + code if not (ROOT / name).exists()] == []
