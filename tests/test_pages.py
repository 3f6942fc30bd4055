"""The commands of README and docs/ run, here or elsewhere, and print what the pages show.

A command is a line of a block `sh`, a line after `$` of a block `console`, or code within a
sentence that begins with a program's name. A block says after its language what it needs that tests
have not (`sh needs=slurm`); such commands are collected, not run. Code within a sentence may name a
command of a block, or only its beginning. The log tells what was run once: its sentences are not
read. A command that a page's test is not to run is named by the mark of the test that runs it:
`@pytest.mark.documents("dvc pull")`, in any file.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nwucla_archive
import pytest
from clone import ROOT, Clone

from experiment.parameters import params
from skeletons.preparing.normalise import NORMAL_FORMS

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
NEEDS = {"<checkout": "released", "make test-lowest": "registry", "make constraints": "registry"}
PROJECT = Clone(ROOT)
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


def needs(command: str) -> str:
    return next((need for start, need in NEEDS.items() if start in command), "")


def parts(page: str) -> Iterator[Part]:
    """The commands of a page in their order."""
    text, position = text_of(page), 0
    for fence in [*FENCE.finditer(text), None]:
        if page != "docs/log.md":
            for code in INLINE.finditer(text, position, fence.start() if fence else len(text)):
                command = " ".join(code["code"].split())
                yield Part((command,), needs=needs(command), inline=True)
        if fence is None:
            return
        position = fence.end()
        marked = fence["notes"].strip().removeprefix("needs=")
        if fence["language"] == "sh":
            plain = fence["block"].replace("\\\n", " ")
            plain = re.sub(r"(^|\s)#.*", "", plain, flags=re.MULTILINE)
            lines = [" ".join(line.split()) for line in plain.splitlines() if line.strip()]
            yield Part(tuple(lines), needs=marked or needs(lines[0]))
        elif fence["language"] == "console":
            for example in fence["block"].removeprefix("$ ").split("\n$ "):
                command, _, output = example.partition("\n")
                yield Part((command,), output)


def run_elsewhere() -> set[str]:
    """The commands that tests' marks name, and those of CI."""
    found = set()
    for file in (".ci/run", ".github/workflows/ci.yml"):
        found |= set(re.findall(r"^(?: *- run: )?(make (?:lint|test).*)$", text_of(file), re.M))
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if ast.unparse(mark).startswith("pytest.mark.documents("):
                        found |= {ast.literal_eval(command) for command in mark.args}
    return found


ELSEWHERE = run_elsewhere()
ALL = [part for page in PAGES for part in parts(page)]
WHOLE = {command for part in ALL for command in part.commands}
BLOCKS = {command for part in ALL if not part.inline for command in part.commands}


def scripts() -> dict[str, list[tuple[str, str]]]:
    """The scripts of each page that are run here, and the output that it shows: a block as far as
    no other test runs it, a command within a sentence where no block and no page before has it.
    """
    found: dict[str, list[tuple[str, str]]] = {page: [] for page in PAGES}
    done = set(ELSEWHERE)
    for page in PAGES:
        for part in parts(page):
            commands = [command for command in part.commands if command not in done]
            if part.inline:
                named = {c for c in commands if any(other.startswith(f"{c} ") for other in WHOLE)}
                commands = [c for c in commands if c not in BLOCKS | named]
                done.update(commands)
            if commands and not part.needs:
                found[page].append(("\n".join(commands), part.output))
    return {page: scripts for page, scripts in found.items() if scripts}


SCRIPTS = scripts()


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """The notes and the text of a page's blocks in a language."""
    found = FENCE.finditer(text_of(page))
    return [(one["notes"].strip(), one["block"]) for one in found if one["language"] == language]


def words(text: str) -> set[str]:
    """The words but numbers, names that DVC makes up and lines of a table."""
    made_up = r"\b[0-9a-f]{7}\b|'[a-z]+-[a-z]+'|[─└├]+|[-+]?\d+(\.\d+)?(?=\s|$)"
    return set(re.sub(made_up, " ", text).split())


@pytest.fixture
def workspace(small: Clone, tmp_path: Path) -> Clone:
    """A copy beside a git remote, as after `make`, for the commands of one page. Copies share
    their cache: an experiment of two pages trains once.
    """
    workspace = small.copy(tmp_path / "clone")
    (workspace.path / ".dvc/config.local").write_text(f"[cache]\ndir = {small.path}/.dvc/cache\n")
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


@pytest.mark.parametrize("page", SCRIPTS)
def test_every_command_of_a_page_runs_and_prints_what_is_shown(
    page: str, workspace: Clone, tmp_path: Path
) -> None:
    if page == "docs/sharing.md":
        workspace.dvc("exp", "run", "--name", "gentle", "-S", "linear.lr=0.01", "check")
    # Tables of the pages have the runs of the default experiment.
    summary = json.loads(PROJECT.git("show", "HEAD:metrics/summary.json"))
    results = {f"{kind}.{run}" for kind, found in summary.items() for run in found}
    for script, output in SCRIPTS[page]:
        said = workspace.shell(script.replace("/mnt/shared", str(tmp_path)), script in REFUSED)
        if script == "dvc metrics diff":  # at this scale others differ, or none
            said += workspace.dvc("metrics", "diff", "--all")
        assert words(output) <= words(said) | results, script


def test_what_is_not_run_says_what_it_needs() -> None:
    """Lists the commands that no test runs: `pytest -k says_what_it_needs -rP` shows them."""
    for part in ALL:
        if part.needs:
            print(f"{part.needs}: {'; '.join(part.commands)}")
    assert {part.needs for part in ALL} == {"", "slurm", "registry", "released", "gpu"}


def test_commands_that_run_elsewhere_are_on_a_page() -> None:
    assert ELSEWHERE <= WHOLE


def would_run(small: Clone, preset: str, *targets: str) -> set[str]:
    """The stages that `dvc repro` runs from nothing after a preset is copied over params.yaml."""
    with small.restored("params.yaml"):
        small.shell(f"python -m commands.preset {preset}")
        return small.ran("repro", "--dry", "--force", *targets)


@pytest.fixture
def documented(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The commands that the test's mark names."""
    return request.node.get_closest_marker("documents").args


@pytest.mark.documents("python -m commands.preset nwucla")
def test_the_preset_of_nw_ucla(small: Clone) -> None:
    run = "nwucla-xview"
    results = {f"semi@{run}-bone", f"ensemble@{run}-3s", f"supervised@{run}", f"retrieval@{run}"}
    assert results <= would_run(small, "nwucla")


@pytest.mark.documents(
    "dvc exp run -S runs.nwucla-xview.protocol=val -S '~runs.nwucla-xview-bone' "
    "-S '~runs.nwucla-xview-motion' -S '~ensembles.nwucla-xview-3s' "
    "-S '~supervised_runs.nwucla-xview'",
    "dvc exp run --queue -S 'pretrain.temperature=0.1,0.35'",
)
def test_the_sweep_of_nw_ucla(small: Clone, documented: tuple[str, ...]) -> None:
    """What its commands queue; the experiments themselves take minutes."""
    setting, sweep = documented
    params_file = small.path / "params.yaml"
    queued = []
    with small.restored("params.yaml"):
        small.shell("python -m commands.preset nwucla")
        for command in (setting.replace("exp run", "exp run --queue"), sweep):
            small.shell(command)
            params_file.write_text(small.git("show", "refs/exps/celery/stash:params.yaml"))
            queued.append(params.read(params_file, datasets=small.path / "datasets"))
        small.dvc("queue", "remove", "--all")
    for p in queued:
        (only,) = p.runs.items()
        assert (only[0], only[1].protocol, only[1].stream) == ("nwucla-xview", "val", "joint")
        assert (dict(p.ensembles), dict(p.supervised_runs)) == ({}, {})
    assert queued[-1].pretrain.temperature == 0.35


@pytest.mark.documents("python -m commands.preset paper", "dvc repro linear@ntu60-xsub")
def test_one_row_of_the_papers_table(small: Clone) -> None:
    stages = would_run(small, "paper", "linear@ntu60-xsub")
    chain = ["raw@ntu60", "prepare@ntu60", "weights@ntu60-xsub"]
    chain += ["pretrain@ntu60-xsub", "embed@ntu60-xsub"]
    assert stages - {"synthetic@ntu60"} == {"check", *chain, "linear@ntu60-xsub"}


@pytest.mark.documents('LAUNCH="torchrun --nproc-per-node=2" dvc repro')
def test_several_processes(small: Clone, documented: tuple[str, ...]) -> None:
    weights = small.path / "data/weights/ntu60-xsub.pt"
    before = weights.stat().st_mtime_ns
    small.shell(f"{documented[0]} --single-item --force pretrain@ntu60-xsub")
    assert weights.stat().st_mtime_ns > before


@pytest.mark.documents(
    "CUDA_VISIBLE_DEVICES=0 dvc exp run --temp --name cool -S pretrain.temperature=0.2 &",
    "sleep 10",
    "CUDA_VISIBLE_DEVICES=1 dvc exp run --temp --name warm -S pretrain.temperature=0.5 &",
)
def test_experiments_that_train_at_once(workspace: Clone, documented: tuple[str, ...]) -> None:
    """Without what follows from the weights; stages of seconds need shorter pauses."""
    script = "\n".join([*documented, "wait"]).replace(" &", " pretrain@ntu60-xsub &")
    said = workspace.shell(script.replace("sleep 10", "sleep 5"))
    listed = workspace.dvc("exp", "list")
    assert "cool" in listed, said
    assert "warm" in listed, said


@pytest.mark.documents("make bench")
def test_benchmarks_start() -> None:
    lines = PROJECT.shell("make --dry-run --old-file .venv/installed bench")
    (command,) = re.findall("python -m bench .*", lines)
    assert "clips/s" in PROJECT.shell(command.replace(" prepare step", " prepare=20"))
    first = "import bench.__main__ as bench; bench.ROWS = bench.ROWS[:1]; bench.main()"
    said = PROJECT.shell(f"python -c '{first}' step")
    (figures,) = re.findall("^preset default, .* ours: (.*)$", said, re.MULTILINE)
    assert json.loads(figures)["cpu_ms"] > 0


@pytest.mark.documents("python -m bench.normal_form nwucla archives")
def test_the_upright_form_is_the_same_in_a_cameras_axes(tmp_path: Path) -> None:
    nwucla_archive.write(tmp_path / "all_sqe.zip")
    lines = PROJECT.shell(f"python -m bench.normal_form nwucla {tmp_path}").splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [form, axes, "72"] for form in NORMAL_FORMS for axes in ("sensor", "camera")
    ]
    assert lines[-2].split()[3:] == lines[-1].split()[3:]


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    """What `make test-lowest` installs; the installation itself needs a package registry."""
    lines = PROJECT.shell("make --dry-run test-lowest TORCH=2.13.0").splitlines()
    (sed,) = [line for line in lines if line.startswith("sed")]
    lowest = set(PROJECT.shell(sed.partition(" > ")[0]).split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = {re.match(r"([\w.-]+)>=([\d.]+)", line) for line in project["dependencies"]}
    assert {f"{bound[1]}=={bound[2]}" for bound in bounds if bound and bound[1] != "torch"} < lowest
    assert "torch==2.13.0" in lowest


@pytest.mark.parametrize("code", [block for page in PAGES for _, block in blocks(page, "python")])
def test_python_runs(small: Clone, code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=small.path, check=True)


def test_the_default_runs_numbers_are_those_of_the_commit() -> None:
    """Not of the working tree, where `make` writes what this machine computes."""
    report = PROJECT.git("show", "HEAD:metrics/README.md")
    readme = " ".join(text_of("README.md").split())
    results = text_of("docs/results.md")
    for stream in ("joint", "bone", "motion"):
        rows = re.findall(rf"\| xsub \| {stream} \| (.*) \|", report)  # linear, retrieval
        cells = [row.split(" | ") for row in rows]
        given = [part for row in cells for part in (row[0], *row[-2:])]
        assert f"| {stream} | {' | '.join(given)} |" in results
        assert f"{stream} {given[0]} ({given[1]})" in readme
    (ensemble,) = re.findall(r"\| xsub \| 3 streams \| ([\d.]+)", report)
    assert f"| 3 streams | {ensemble} |" in results
    assert f"three streams {ensemble}." in readme


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
    rooms = "stages|commands|experiment|learning|machine|model|skeletons|tests|bench|presets"
    rooms += "|datasets|docs"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]*)`", text):
        assert (ROOT / name).exists() or name == "datasets/mine.yaml", name


def test_pictures_are_small() -> None:
    pictures = [path for path in ROOT.joinpath("docs").rglob("*") if path.suffix == ".png"]
    assert 0 < sum(path.stat().st_size for path in pictures) < 150_000
