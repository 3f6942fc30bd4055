"""The commands of README and docs/ run, here or elsewhere, and print what the pages show.

A command is a line of a block `sh`, a line after `$` of a block `console`, or code within a
sentence that begins with a program's name. A block says after its language what it needs that tests
have not (`sh needs=slurm`); such commands are collected, not run. Code within a sentence may name a
command of a block, or only its beginning. The log tells what was run once: its sentences are not
read.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clone import ROOT, Clone

from experiment.parameters import params

PAGES = [
    *("README.md", "CONTRIBUTING.md", "data/README.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(
    r"^```(?P<language>\w*)(?P<notes>[^\n]*)\n(?P<block>.*?)^```$", re.DOTALL | re.MULTILINE
)
INLINE = re.compile(
    r"`(?P<code>(?:[A-Z_]+=\S+ )*(?:make|dvc|git|python|cp|source|pytest)\b(?![./-])[^`]*)`"
)
NEEDS = {"<checkout": "released", "make test-lowest": "registry"}
# Commands that another test runs, or CI.
ELSEWHERE = {
    ".ci/run": ["make lint", "make test"],
    ".github/workflows/ci.yml": ["make lint test"],
    "tests/test_pages.py::test_benchmarks_start": ["make bench"],
    "tests/test_pages.py::test_one_row_of_the_papers_table": [
        "python -m commands.preset paper",
        "dvc repro linear@ntu60-xsub",
    ],
    "tests/test_pages.py::test_the_preset_of_nw_ucla": ["python -m commands.preset nwucla"],
    "tests/test_pages.py::test_the_sweep_of_nw_ucla": [
        "dvc exp run -S runs.nwucla-xview.protocol=val -S '~runs.nwucla-xview-bone' "
        "-S '~runs.nwucla-xview-motion' -S '~ensembles.nwucla-xview-3s' "
        "-S '~supervised_runs.nwucla-xview'",
        "dvc exp run --queue -S 'pretrain.temperature=0.1,0.35'",
    ],
    "tests/test_pages.py::test_several_processes": [
        'LAUNCH="torchrun --nproc-per-node=2" dvc repro'
    ],
    "tests/test_pages.py::test_experiments_that_train_at_once": [
        "CUDA_VISIBLE_DEVICES=0 dvc exp run --temp --name cool -S pretrain.temperature=0.2 &",
        "sleep 10",
        "CUDA_VISIBLE_DEVICES=1 dvc exp run --temp --name warm -S pretrain.temperature=0.5 &",
    ],
    "tests/test_recipes.py::test_runs_that_train_at_once": [
        "dvc repro prepare@ntu60",
        "sleep 10",
        "CUDA_VISIBLE_DEVICES=0 dvc repro --single-item pretrain@ntu60-xsub &",
        "CUDA_VISIBLE_DEVICES=1 dvc repro --single-item pretrain@ntu60-xsub-bone &",
        "CUDA_VISIBLE_DEVICES=2 dvc repro --single-item pretrain@ntu60-xsub-motion &",
    ],
    "tests/test_sweeps.py::test_results_of_a_stage_that_refuses_come_back": [
        "dvc checkout",
        "git checkout metrics",
    ],
    "tests/test_export.py::test_a_run_is_exported_with_its_preparation": [
        "python -m commands.export ntu60-xsub"
    ],
    "tests/test_recipes.py::test_own_recordings": ["dvc repro linear@mine-xsub"],
    "tests/test_recipes.py::test_a_queued_task_lacks_what_git_does_not_know_and_says_so": [
        "git add datasets/mine.yaml",
        "dvc queue status",
        "dvc queue logs gentle",
        "dvc queue remove --failed",
    ],
    "tests/test_recipes.py::test_a_renamed_run_keeps_its_weights": [
        "mv data/weights/ntu60-xsub-bone.pt data/weights/bones.pt",
        "mv data/epochs/ntu60-xsub-bone data/epochs/bones",
        "mv metrics/pretrain/ntu60-xsub-bone.json metrics/pretrain/bones.json",
        "dvc commit --force pretrain@bones",
    ],
    "tests/test_stages.py::test_epochs_that_are_kept_are_evaluated_as_the_last_is": [
        "python -m commands.epochs ntu60-xsub"
    ],
    "tests/test_recipes.py::test_a_changed_prepare_without_archives": [
        "dvc repro raw@ntu60",
        "dvc repro --pull --allow-missing",
    ],
    "tests/test_recipes.py::test_freeing_space_keeps_experiments": [
        "dvc gc --workspace --all-branches --all-tags --all-experiments"
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
    "tests/test_sharing.py::test_a_clone_labels_a_recording_with_three_artifacts": [
        "dvc pull data/weights/ntu60-xsub.pt data/classifiers/ntu60-xsub.zarr "
        "data/features/ntu60-xsub.zarr",
        "python -m commands.label ntu60-xsub mine",
        "python -m commands.label ntu60-xsub mine/S001C001P003R001A002.skeleton --every 20 --json",
    ],
    "tests/test_sharing.py::test_weights_alone": [
        "dvc get <repository> data/weights/ntu60-xsub.pt"
    ],
}
LISTED = {command for those in ELSEWHERE.values() for command in those}
REFUSED = {"dvc exp run -S runs.ntu60-xsub.protocol=xset"}


@dataclass(frozen=True)
class Part:
    """Commands that belong together, what the page shows of their output, and what they need."""

    commands: tuple[str, ...]
    output: str = ""
    needs: str = ""
    inline: bool = False


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def parts(page: str) -> Iterator[Part]:
    """The commands of a page in their order."""
    text, position = text_of(page), 0
    for fence in [*FENCE.finditer(text), None]:
        if page != "docs/log.md":
            for code in INLINE.finditer(text, position, fence.start() if fence else len(text)):
                yield Part((" ".join(code["code"].split()),), inline=True)
        if fence is None:
            return
        position = fence.end()
        needs = fence["notes"].strip().removeprefix("needs=")
        if fence["language"] == "sh":
            plain = fence["block"].replace("\\\n", " ")
            plain = re.sub(r"(^|\s)#.*", "", plain, flags=re.MULTILINE)
            lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
            yield Part(tuple(lines), needs=needs)
        elif fence["language"] == "console":
            for example in fence["block"].removeprefix("$ ").split("\n$ "):
                command, _, output = example.partition("\n")
                yield Part((command,), output)


ALL = [part for page in PAGES for part in parts(page)]
WHOLE = {command for part in ALL for command in part.commands}
BLOCKS = {command for part in ALL if not part.inline for command in part.commands}


def needs(command: str) -> str:
    return next((need for start, need in NEEDS.items() if start in command), "")


def is_a_name(part: Part) -> bool:
    """Whether it is a command that stands in a block, or only the beginning of one."""
    (command,) = part.commands
    return command in BLOCKS or any(other.startswith(f"{command} ") for other in WHOLE)


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """The notes and the text of a page's blocks in a language."""
    found = FENCE.finditer(text_of(page))
    return [(one["notes"].strip(), one["block"]) for one in found if one["language"] == language]


def words(text: str) -> set[str]:
    """What is neither a number, a name that DVC made up nor a line of a table."""
    made_up = r"\b[0-9a-f]{7}\b|'[a-z]+-[a-z]+'|[─└├]+|[-+]?\d+(\.\d+)?(?=\s|$)"
    return set(re.sub(made_up, " ", text).split())


@pytest.fixture
def workspace(small: Clone, tmp_path: Path) -> Clone:
    """A copy beside a git remote, as after `make`, for the commands of one page."""
    workspace = small.copy(tmp_path / "clone")
    (workspace.path / ".venv/bin").mkdir(parents=True)
    for program in ("python", "dvc", "pytest"):
        (workspace.path / ".venv/bin" / program).symlink_to(Path(sys.executable).parent / program)
    (workspace.path / ".venv/bin/activate").touch()
    # `make` would install an environment anew that is not of this place.
    (workspace.path / ".venv/installed").write_text(f"{workspace.path}\n")
    workspace.git("init", "-q", "--bare", str(tmp_path / "origin.git"))
    workspace.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    workspace.git("push", "-q", "--set-upstream", "origin", "main")
    return workspace


def run(clone: Clone, command: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a command in a clone; both outputs in one."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=clone.path,
        env={**os.environ, "PATH": path, "BROWSER": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs_and_prints_what_is_shown(
    page: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    mine = [
        part
        for part in parts(page)
        if not part.needs and not (part.inline and is_a_name(part)) and not needs(part.commands[0])
    ]
    # A block is one script, as far as it is run here.
    scripts = [(part, [c for c in part.commands if c not in LISTED]) for part in mine]
    scripts = [(part, commands) for part, commands in scripts if commands]
    if not scripts:
        return
    workspace: Clone = request.getfixturevalue("workspace")
    if page == "docs/sharing.md":
        workspace.dvc("exp", "run", "--name", "gentle", "-S", "linear.lr=0.01")
    for part, commands in scripts:
        script = "\n".join(commands).replace("/mnt/shared", str(tmp_path))
        done = run(workspace, script)
        assert (done.returncode != 0) == (script in REFUSED), f"{script}\n{done.stdout}"
        if part.output:
            # Tables have the results that differ, which at this scale are others.
            tables = workspace.dvc("metrics", "diff", "--all") + Clone(ROOT).dvc("metrics", "show")
            assert words(part.output) <= words(done.stdout + tables), script


def test_what_is_not_run_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """Lists the commands that no test runs: `pytest -k says_what_it_needs -rP` shows them."""
    marked = [(part.needs or needs(part.commands[0]), part.commands) for part in ALL]
    for need, commands in marked:
        if need:
            print(f"{need}: {'; '.join(commands)}")
    assert {need for need, _ in marked if need} == {"slurm", "registry", "released", "gpu"}


def test_commands_that_run_elsewhere_do() -> None:
    shown = {command for part in ALL for command in part.commands}
    for place, those in ELSEWHERE.items():
        assert set(those) <= shown, "on no page any more"
        path, _, test = place.partition("::")
        text = (ROOT / path).read_text()
        lines = {line.strip().removeprefix("- run: ") for line in text.splitlines()}
        assert f"def {test}(" in text if test else set(those) <= lines


def would_run(clone: Clone, preset: str, *targets: str) -> set[str]:
    """The stages that `dvc repro` runs from nothing after params.yaml is written from a preset."""
    before = (clone.path / "params.yaml").read_text()
    try:
        run(clone, f"python -m commands.preset {preset}")
        return clone.ran("repro", "--dry", "--force", *targets)
    finally:
        (clone.path / "params.yaml").write_text(before)


def test_the_preset_of_nw_ucla(clone: Clone) -> None:
    run = "nwucla-xview"
    results = {f"semi@{run}-bone", f"ensemble@{run}-3s", f"supervised@{run}", f"retrieval@{run}"}
    assert results <= would_run(clone, "nwucla")


def test_the_sweep_of_nw_ucla(clone: Clone) -> None:
    """What its commands queue; the experiments themselves take minutes."""
    setting, sweep = ELSEWHERE["tests/test_pages.py::test_the_sweep_of_nw_ucla"]
    params_file = clone.path / "params.yaml"
    before = params_file.read_text()
    run(clone, "python -m commands.preset nwucla")
    queued = []
    try:
        for command in (setting.replace("exp run", "exp run --queue"), sweep):
            done = run(clone, command)
            assert done.returncode == 0, done.stdout
            params_file.write_text(clone.git("show", "refs/exps/celery/stash:params.yaml"))
            queued.append(params.read(params_file, datasets=clone.path / "datasets"))
    finally:
        clone.dvc("queue", "remove", "--all")
        params_file.write_text(before)
    for p in queued:
        (only,) = p.runs.items()
        assert (only[0], only[1].protocol, only[1].stream) == ("nwucla-xview", "val", "joint")
        assert dict(p.ensembles) == {}
        assert list(p.supervised_runs) == ["ntu60-xsub"], "the clone's own, which stays"
    assert queued[-1].pretrain.temperature == 0.35


def test_one_row_of_the_papers_table(clone: Clone) -> None:
    stages = would_run(clone, "paper", "linear@ntu60-xsub")
    chain = ["raw@ntu60", "prepare@ntu60", "pretrain@ntu60-xsub", "embed@ntu60-xsub"]
    assert stages - {"synthetic@ntu60"} == {"check", *chain, "linear@ntu60-xsub"}


def test_several_processes(small: Clone) -> None:
    weights = small.path / "data/weights/ntu60-xsub.pt"
    before = weights.stat().st_mtime_ns
    command = 'LAUNCH="torchrun --nproc-per-node=2" dvc repro'
    done = run(small, f"{command} --single-item --force pretrain@ntu60-xsub")
    assert done.returncode == 0, done.stdout
    assert weights.stat().st_mtime_ns > before


def test_experiments_that_train_at_once(workspace: Clone) -> None:
    """Without what follows from the weights."""
    commands = ELSEWHERE["tests/test_pages.py::test_experiments_that_train_at_once"]
    only = [command.replace(" &", " pretrain@ntu60-xsub &") for command in commands]
    done = run(workspace, "\n".join([*only, "wait"]))
    listed = workspace.dvc("exp", "list")
    assert "cool" in listed, done.stdout
    assert "warm" in listed, done.stdout


def test_benchmarks_start() -> None:
    lines = run(Clone(ROOT), "make --dry-run --old-file .venv/installed bench").stdout
    (command,) = re.findall("python -m bench .*", lines)
    assert "clips/s" in run(Clone(ROOT), command.replace(" prepare step", " prepare=20")).stdout
    first = "import bench.__main__ as bench; bench.ROWS = bench.ROWS[:1]; bench.main()"
    said = run(Clone(ROOT), f"python -c '{first}' step").stdout
    (figures,) = re.findall("^preset default, .* ours: (.*)$", said, re.MULTILINE)
    assert json.loads(figures)["cpu_ms"] > 0


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    """What `make test-lowest` installs; the installation itself needs a package registry."""
    lines = run(Clone(ROOT), "make --dry-run test-lowest TORCH=2.13.0").stdout.splitlines()
    (sed,) = [line for line in lines if line.startswith("sed")]
    lowest = set(run(Clone(ROOT), sed.partition(" > ")[0]).stdout.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {re.match(r"([\w.-]+)>=([\d.]+)", line) for line in project["dependencies"]}
    assert {f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] != "torch"} < lowest
    assert "torch==2.13.0" in lowest


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", text_of("Makefile"), re.MULTILINE)
    assert phony
    said = run(Clone(ROOT), "make --no-print-directory help").stdout
    assert {line.split()[0] for line in said.splitlines()} == set(phony[1].split()) - {"all"}


@pytest.mark.parametrize("code", [block for page in PAGES for _, block in blocks(page, "python")])
def test_python_runs(clone: Clone, code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=clone.path, check=True)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_default_runs_table_is_what_it_gave(page: str) -> None:
    def found(evaluation: str, run: str) -> str:
        (row,) = json.loads((ROOT / f"metrics/{evaluation}/{run}.json").read_text())
        return f"{row['top1']:.2f} | {row['untrained_top1']:.2f}"

    for stream in ("joint", "bone", "motion"):
        run = "ntu60-xsub" + (f"-{stream}" if stream != "joint" else "")
        line = f"| {stream} | {found('linear', run)} | {found('retrieval', run)} |"
        assert line in text_of(page)
    summary = json.loads((ROOT / "metrics/summary.json").read_text())
    assert f"| 3 streams | {summary['ensemble']['ntu60-xsub-3s']:.2f} |" in text_of(page)


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 200


def heading_links(page: str) -> set[str]:
    """The names under which a page's headings are linked to."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", title.lower()) for title in titles]
    return {title.replace(" ", "-") for title in kept}


@pytest.mark.parametrize("page", PAGES)
def test_links_files_and_extras_exist(page: str) -> None:
    text = text_of(page)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(re.findall(r"pip install '\.\[([\w-]+)\]'", text)) <= {
        *project["optional-dependencies"]
    }
    for link in re.findall(r"\]\(([^):]+)\)", text):
        name, _, heading = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if heading:
            assert heading in heading_links(target.resolve().relative_to(ROOT).as_posix()), link
    rooms = "stages|commands|experiment|learning|model|skeletons|tests|bench|presets|datasets|docs"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text):
        assert (ROOT / name).exists() or name == "datasets/mine.yaml", name


def test_pictures_are_small() -> None:
    pictures = [path for path in ROOT.joinpath("docs").rglob("*") if path.suffix == ".png"]
    assert 0 < sum(path.stat().st_size for path in pictures) < 150_000
