"""What the pages of docs/ tell users to do in less common cases, done: it works as they say."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from clone import Clone
from test_pages import blocks


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
    archives = tmp_path / "recordings"
    archives.mkdir()
    (archive,) = (own.path / "data/raw/ntu60").glob("*.zip")
    shutil.copyfile(archive, archives / "mine.zip")
    found = dict(blocks("docs/data.md", "yaml"))
    (own.path / "datasets/mine.yaml").write_text(found["file=datasets/mine.yaml"])
    added = yaml.safe_load(found["file=params.yaml"].replace("/data/recordings", str(archives)))
    own.change(added)
    ran = own.ran("repro", "linear@mine-xsub")
    stages = {"synthetic", "raw", "prepare"}
    runs = {"pretrain", "embed", "linear"}
    expected = {f"{stage}@mine" for stage in stages} | {f"{stage}@mine-xsub" for stage in runs}
    assert ran == expected | {"check"}


@pytest.mark.documents(
    "dvc repro prepare@ntu60",
    "sleep 10",
    "CUDA_VISIBLE_DEVICES=0 dvc repro --single-item pretrain@ntu60-xsub &",
    "CUDA_VISIBLE_DEVICES=1 dvc repro --single-item pretrain@ntu60-xsub-bone &",
    "CUDA_VISIBLE_DEVICES=2 dvc repro --single-item pretrain@ntu60-xsub-motion &",
)
def test_runs_that_train_at_once(finished: Clone, tmp_path: Path) -> None:
    own = finished.copy(tmp_path / "clone")
    motion = {"dataset": "ntu60", "protocol": "xsub", "stream": "motion"}
    own.change({"pretrain": {"temperature": 0.3}, "runs": {"ntu60-xsub-motion": motion}})
    block = block_with("docs/running.md", "pretrain@ntu60-xsub-motion &")
    assert block.rstrip().endswith("wait\ndvc repro")
    block = block.rstrip().removesuffix("dvc repro")
    # Stages of seconds need shorter pauses.
    said = own.shell(block.replace("sleep 10", "sleep 5"))
    # On a busy machine DVC may fail to record one, whose weights are there: the page says how to.
    lost = [stage for stage in own.stale() if stage.startswith(("prepare", "pretrain"))]
    assert len(lost) <= 1, said
    for stage in lost:
        own.dvc("commit", "--force", stage)
    assert not {stage for stage in own.stale() if stage.startswith(("prepare", "pretrain"))}, said
    assert "embed@ntu60-xsub-bone" in own.stale()


@pytest.mark.documents(
    "git add datasets/mine.yaml",
    "dvc queue status",
    "dvc queue logs gentle",
    "dvc queue remove --failed",
)
def test_a_queued_task_lacks_what_git_does_not_know_and_says_so(own: Clone) -> None:
    name = "datasets/lists/mine.txt"
    (own.path / name).write_text("S001C001P001R001A001\n")
    override = f"datasets/ntu60.yaml:archives.leave_out={name}"
    own.dvc("exp", "run", "--queue", "--name", "gentle", "-S", override)
    own.git("checkout", "datasets/ntu60.yaml")
    own.dvc("queue", "start")  # returns when the queue is empty
    assert re.search(r"gentle .*Failed", own.dvc("queue", "status"))
    said = own.dvc("queue", "logs", "gentle")
    assert name in said
    assert "No such file or directory" in said or "there is no" in said
    own.dvc("queue", "remove", "--failed")
    own.git("add", name)
    own.dvc("exp", "run", "--temp", "--name", "mended", "-S", override, "prepare@ntu60")
    assert "mended" in own.dvc("exp", "list")


@pytest.mark.documents(
    "mv data/weights/ntu60-xsub-bone.pt data/weights/bones.pt",
    "mv data/epochs/ntu60-xsub-bone data/epochs/bones",
    "mv metrics/pretrain/ntu60-xsub-bone.json metrics/pretrain/bones.json",
    "dvc commit --force pretrain@bones",
)
def test_a_renamed_run_keeps_its_weights(finished: Clone, tmp_path: Path) -> None:
    own = finished.copy(tmp_path / "clone")
    own.keep_run("ntu60-xsub-bone")
    weights = (own.path / "data/weights/ntu60-xsub-bone.pt").read_bytes()
    named = (own.path / "params.yaml").read_text().replace("ntu60-xsub-bone", "bones")
    (own.path / "params.yaml").write_text(named)
    own.dvc("repro", "check")
    own.shell(block_with("docs/experiments.md", "pretrain@bones").replace("dvc repro", ""))
    assert own.ran("repro", "linear@bones") == {"embed@bones", "linear@bones"}
    assert (own.path / "data/weights/bones.pt").read_bytes() == weights
    stale = own.stale()
    listed = own.shell("python -m commands.clean")
    assert "metrics/linear/ntu60-xsub-bone.json" in listed
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
    own.dvc("exp", "run", "--name", "gentle", "-S", "linear.lr=0.01")
    own.git("checkout", ".")
    own.dvc("checkout")
    block = block_with("docs/sharing.md", "dvc gc ")
    own.shell(block.replace("--all-experiments\n", "--all-experiments --force\n"))
    own.dvc("exp", "apply", "gentle")
    assert own.stale() == set()
    own.git("checkout", ".")
    own.dvc("checkout")
    assert own.stale() == set()
