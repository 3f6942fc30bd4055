"""What the pages of docs/ tell users to do in less common cases, done: it works as they say."""

import re
from pathlib import Path

import pytest
import yaml
from clone import Clone
from test_pages import blocks

RUN = "ntu60-xsub"


@pytest.fixture
def own(one_run: Clone, tmp_path: Path) -> Clone:
    """A copy of the clone with one run for one test."""
    return one_run.copy(tmp_path / "clone")


def block_with(page: str, command: str) -> str:
    """The block of a page that has this command, without comments."""
    (found,) = [block for _, block in blocks(page, "sh") if command in block]
    return re.sub(r"\s+#.*", "", found)


@pytest.mark.documents("dvc repro linear@mine-xsub")
def test_own_recordings(own: Clone, tmp_path: Path) -> None:
    (archive,) = (own.path / "data/raw/ntu60").glob("*.zip")
    archives = tmp_path / "recordings"
    archives.mkdir()
    archive.rename(archives / "mine.zip")
    found = dict(blocks("docs/bring.md", "yaml"))
    (own.path / "datasets/mine.yaml").write_text(found["file=datasets/mine.yaml"])
    added = yaml.safe_load(found["file=params.yaml"].replace("/data/recordings", str(archives)))
    own.change(added)
    ran = own.ran("repro", "linear@mine-xsub")
    stages = {"synthetic", "raw", "prepare"}
    runs = {"weights", "pretrain", "embed", "linear"}
    expected = {f"{stage}@mine" for stage in stages} | {f"{stage}@mine-xsub" for stage in runs}
    assert ran == expected | {"check"}


@pytest.mark.documents(
    "dvc repro prepare@ntu60 weights",
    "sleep 10",
    "CUDA_VISIBLE_DEVICES=0 dvc repro --single-item pretrain@ntu60-xsub &",
    "CUDA_VISIBLE_DEVICES=1 dvc repro --single-item pretrain@ntu60-xsub-bone &",
    "CUDA_VISIBLE_DEVICES=2 dvc repro --single-item pretrain@ntu60-xsub-motion &",
)
def test_runs_that_train_at_once(own: Clone) -> None:
    """Two of the page's three, without the evaluations, with pauses as short as the stages."""
    bone = {"dataset": "ntu60", "protocol": "xsub", "stream": "bone"}
    own.change({"pretrain": {"temperature": 0.3}, "runs": {"ntu60-xsub-bone": bone}})
    two, third = block_with("docs/running.md", "pretrain@ntu60-xsub-bone &").rsplit("sleep 10", 1)
    assert third.split("\n")[2:] == ["wait", "dvc repro", ""]
    said = own.shell(two.replace("sleep 10", "sleep 5") + "wait")
    # On a busy machine DVC may fail to record one, whose weights are there: the page says how to.
    lost = [stage for stage in own.stale() if stage.startswith(("prepare", "pretrain"))]
    assert len(lost) <= 1, said
    for stage in lost:
        own.dvc("commit", "--force", stage)
    assert not {stage for stage in own.stale() if stage.startswith(("prepare", "pretrain"))}, said
    assert "embed@ntu60-xsub-bone" in own.stale()


@pytest.mark.documents(
    "dvc repro weights@bones",
    "mv data/weights/ntu60-xsub-bone.pt data/weights/bones.pt",
    "mv data/epochs/ntu60-xsub-bone data/epochs/bones",
    "mv metrics/pretrain/ntu60-xsub-bone.json metrics/pretrain/bones.json",
    "dvc commit --force pretrain@bones",
)
def test_a_renamed_run_keeps_its_weights(own: Clone) -> None:
    weights = (own.path / "data/weights/ntu60-xsub.pt").read_bytes()
    named = (own.path / "params.yaml").read_text().replace("ntu60-xsub", "bones")
    (own.path / "params.yaml").write_text(named)
    block = block_with("docs/experiments.md", "pretrain@bones").replace("ntu60-xsub-bone", RUN)
    own.shell(block.replace("dvc repro\n", ""))
    assert own.ran("repro", "linear@bones") == {"embed@bones", "linear@bones"}
    assert (own.path / "data/weights/bones.pt").read_bytes() == weights
    stale = own.stale()
    listed = own.shell("python -m commands.clean")
    assert f"metrics/linear/{RUN}.json" in listed
    assert "metrics/linear/bones.json" not in listed
    own.shell("python -m commands.clean --remove")
    assert own.shell("python -m commands.clean").startswith("0 ")
    assert own.stale() == stale


def test_an_edited_docstring_is_settled_without_a_run(own: Clone) -> None:
    module = own.path / "learning/training/loop.py"
    module.write_text(module.read_text().replace('"""', '"""Edited. ', 1))
    assert "pretrain@ntu60-xsub" in own.stale()
    weights = (own.path / "data/weights/ntu60-xsub.pt").stat().st_mtime_ns
    own.shell(block_with("docs/experiments.md", "git add dvc.lock"))
    assert own.stale() == set()
    assert (own.path / "data/weights/ntu60-xsub.pt").stat().st_mtime_ns == weights


@pytest.mark.documents(
    "git merge other",
    "git checkout --theirs dvc.lock metrics",
    "git add dvc.lock metrics && git commit --no-edit",
)
def test_a_merge_of_branches_that_both_ran(own: Clone) -> None:
    block = block_with("docs/sharing.md", "git merge other").replace("\ndvc repro\n", "\n")
    merge, settle, commit = block.strip().split("\n")
    base = own.git("rev-parse", "HEAD").strip()
    for branch, change in (("other", {"retrieval": {"k": 3}}), ("ours", {"linear": {"lr": 0.01}})):
        own.git("checkout", "-q", "-b", branch, base)
        own.change(change)
        own.dvc("repro")
        own.git("commit", "-qam", branch)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in own.shell(merge, True)
    own.shell(settle)
    ran = own.ran("repro")
    assert not {stage for stage in ran if stage.startswith(("pretrain", "embed"))}
    own.shell(commit)
    assert own.stale() == set()


@pytest.mark.documents("dvc repro raw@ntu60", "dvc repro --pull --allow-missing")
def test_a_changed_prepare_without_archives(own: Clone, tmp_path: Path) -> None:
    own.dvc("remote", "add", "--default", "shared", str(tmp_path / "remote"))
    own.git("commit", "-qam", "A remote")
    own.dvc("push")
    colleague = own.clone(tmp_path / "colleague")
    colleague.change({"prepare": {"keepbits": 13}})
    fetch = ("repro", "--pull", "--allow-missing", "prepare@ntu60")
    assert "No such file or directory: " in colleague.dvc(*fetch, fails=True)
    assert "raw@ntu60" in colleague.ran("repro", "raw@ntu60")
    assert colleague.ran(*fetch) == {"prepare@ntu60"}


@pytest.mark.documents("dvc gc --workspace --all-branches --all-tags --all-experiments")
def test_freeing_space_keeps_experiments(own: Clone) -> None:
    own.dvc("exp", "run", "--name", "gentle", "-S", "linear.lr=0.01", "linear@ntu60-xsub")
    own.git("checkout", ".")
    own.dvc("checkout")
    block = block_with("docs/sharing.md", "dvc gc ")
    own.shell(block.replace("--all-experiments\n", "--all-experiments --force\n"))
    own.dvc("exp", "apply", "gentle")
    left = {"floor@ntu60-xsub", "run_page@ntu60-xsub", "report"}
    assert own.stale() == left, "as the experiment left them"
    own.git("checkout", ".")
    own.dvc("checkout")
    assert own.stale() == set()
