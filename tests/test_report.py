"""The page of plots, the comparison of experiments, the pictures."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import vl_convert
import yaml
from clone import ROOT, Clone
from layouts import KINECT_V2
from matplotlib.figure import Figure
from specimens import person

from experiment.artifacts import tables
from experiment.parameters import params
from experiment.reports import drawing, feature_map, results_page
from stages import report

# Of each run: pretraining, linear's curves, its accuracies and confusions, and semi's accuracy.
CHARTS = 5


def specs(page: str) -> list[dict[str, Any]]:
    """The Vega-Lite charts of a page that `dvc plots` wrote."""
    return [json.loads(found) for found in re.findall(r"var spec = (.*);", page)]


# ---- Tables --------------------------------------------------------------------------------------


def test_summary_has_one_number_a_result(clone: Clone) -> None:
    summary = json.loads((clone.path / "metrics/summary.json").read_text())
    linear = json.loads((clone.path / "metrics/linear/ntu60-xsub.json").read_text())
    assert summary["linear"]["ntu60-xsub"] == linear[0]["top1"]
    assert set(summary["semi"]["ntu60-xsub"]) == {"50%"}
    shown = json.loads(clone.dvc("metrics", "show", "--json"))[""]["data"]
    with_numbers = {path for path, found in shown.items() if found.get("data")}
    assert with_numbers == {"metrics/summary.json"}


def test_tables_of_charts_agree_with_the_results(clone: Clone) -> None:
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    folder = clone.path / "metrics"
    (linear,) = tables.read(f"{folder}/linear/ntu60-xsub.json")
    cells = tables.read(f"{folder}/linear/ntu60-xsub-confusion.json")
    right = sum(row["clips"] for row in cells if row["actual"] == row["predicted"])
    assert round(100 * right / sum(row["clips"] for row in cells), 2) == linear["top1"]
    curve = tables.read(f"{folder}/linear/ntu60-xsub-epochs.json")
    assert len(curve) == params["linear"]["epochs"]
    assert round(curve[-1]["top1"], 2) == linear["top1"]
    assert [row["fraction"] for row in tables.read(f"{folder}/semi/ntu60-xsub.json")] == [0.5]


def test_the_loss_is_the_sum_of_its_terms(clone: Clone) -> None:
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    for run in params["runs"]:
        curve = tables.read(f"{clone.path}/metrics/pretrain/{run}.json")
        assert [row["epoch"] for row in curve] == [0, 1]
        for row in curve:
            terms = [row[term] for term in params["pretrain"]["terms"]]
            assert row["loss"] == pytest.approx(sum(terms), rel=1e-4)


def test_published_results_stand_beside_real_ones_only(tmp_path: Path) -> None:
    joint = {"protocol": "xsub", "stream": "joint"}
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {
        "sources": {"ntu60": "archives", "pku2": "synthetic"},
        "runs": {"a": {"dataset": "ntu60", **joint}, "b": {"dataset": "pku2", **joint}},
        "supervised_runs": {"a": {"dataset": "ntu60", **joint}},
        "transfers": {"b-to-ntu60": {"run": "b", "target": "ntu60", "protocol": "xsub"}},
        "ensembles": {},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    p = params.read(tmp_path / "params.yaml", datasets=ROOT / "datasets")
    probe = {"top1": 1.0, "top5": 2.0, "best_top1": 3.0, "untrained_top1": 4.0}
    coordinates = {"linear_top1": 0.5, "retrieval_top1": 1.0}
    made = {"torch": "2.13.0", "device": "a GPU", "processes": 4}
    theirs = dict.fromkeys(made, "") | {"from": "theirs.pt"}
    found = {
        "weights": {"a": made, "b": theirs},
        "floor": {"a": coordinates, "b": coordinates | {"retrieval_top1": 0.0}},
        "linear": {"a": probe, "b": probe},
        "retrieval": {"a": probe, "b": probe},
        "semi": {run: {"10%": {"top1": 1.0, "std": 0.5}} for run in "ab"},
        "supervised": {"a": {"top1": 5.0, "top5": 6.0}},
        "transfer": {"b-to-ntu60": probe},
        "ensemble": {},
    }
    published = {
        "someone": {
            "source": "a table",
            "linear": {"ntu60-xsub": 80.1, "pku2-xsub": 50.2},
            "transfer-to-ntu60": {"pku2": 60.3},
            "semi-ntu60-xsub": {"10%": 70.4},
        }
    }
    text = results_page.page(p, found, published)
    real, synthetic = text.split("## pku2")
    assert "| someone | 80.1 | a table |" in real
    assert "| someone | 70.4 | a table |" in real
    assert "| a | xsub | joint | 5.00 | 6.00 |" in real
    assert "| a | 2.13.0 | a GPU | 4 |" in real
    assert "| a | xsub | joint | 1.00 | 2.00 | 3.00 | 4.00 | 0.50 |" in real
    assert real.count("No better than untrained: a.\n") == 1  # linear
    assert real.count("No better than untrained and coordinates: a.\n") == 1  # retrieval
    assert synthetic.count("No better than untrained: b.\n") == 2
    assert text.count("No better than") == 4
    assert "b was not pretrained here: its weights come from theirs.pt." in synthetic
    assert "### Supervised" not in synthetic
    assert "someone" not in synthetic
    assert "60.3" not in text, "a transfer from synthetic recordings beside a published one"
    assert "50.2" not in text


def test_a_result_below_a_floor_says_so_in_its_line(tmp_path: Path) -> None:
    path = f"{tmp_path}/a.json"
    for top1, clause in ((50.01, ""), (50.0, "; no better than untrained")):
        line = f"{path}: top1 {top1}, untrained_top1 50.0{clause}"
        assert tables.write(path, top1=top1, untrained_top1=50.0) == line
    assert (
        tables.unbeaten(1, untrained=1, coordinates=2) == "no better than untrained and coordinates"
    )


def test_an_experiment_without_runs_has_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {
        "runs": {},
        "transfers": {},
        "ensembles": {},
        "supervised_runs": {"a": {"dataset": "ntu60", "protocol": "xsub", "stream": "joint"}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    tables.write("metrics/supervised/a.json", top1=1.0, top5=2.0)
    Path("metrics/published.yaml").write_text("{}")
    report.main()
    assert "| a | xsub | joint | 1.00 | 2.00 |" in Path("metrics/README.md").read_text()


@pytest.mark.parametrize("clips", [1, 2, 4])
def test_a_few_test_clips_have_a_picture(clips: int) -> None:
    features = np.random.default_rng(0).normal(size=(clips, 8)).astype(np.float32)
    places = feature_map.tsne(features, seed=0).tolist()
    mapped = [{"label": label, "map": [place, place]} for label, place in enumerate(places)]
    for names, called in (([], "1234"), (list("abcd"), "abcd")):
        figure = feature_map.picture("run", mapped, names)
        assert all(axes.collections for axes in figure.axes)
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == list(called[:clips])


def test_tables_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = str(tmp_path / "folder/table.json")
    tables.write_rows(path, [{"epoch": 0, "loss": 1 / 3}, {"epoch": 1, "loss": 2e-9}])
    assert tables.read(path) == [{"epoch": 0, "loss": 0.333333}, {"epoch": 1, "loss": 2e-9}]
    assert tables.write(path, top1=200 / 3) == f"{path}: top1 66.67"
    assert tables.read(path) == [{"top1": 66.67}]


# ---- Pages ---------------------------------------------------------------------------------------


def test_the_page_has_every_chart_and_picture(clone: Clone, tmp_path: Path) -> None:
    clone.dvc("plots", "show", "--out", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    runs = set(yaml.safe_load((clone.path / "params.yaml").read_text())["runs"])
    charts = specs(page)
    assert "<DVC" not in json.dumps(charts)
    titles = [chart["title"]["text"] for chart in charts]
    assert len(set(titles)) == len(titles) == CHARTS * len(runs)
    assert {f"{kind} of {run}" for run in runs for kind in ("Pretraining", "Linear evaluation")} < {
        *titles
    }
    folded = [chart for chart in charts if "fold" in chart.get("transform", [{}])[0]]
    assert len(folded) == 2 * len(runs)
    for chart in folded:
        drawn = {"rev", "epoch", "field", "filename", *chart["transform"][0]["fold"]}
        assert all({*row} <= drawn for row in chart["data"]["values"])
    pictures = re.findall(r'<img src="([^"]*)"', page)
    assert len(pictures) == len(runs) + 2  # of runs and of datasets
    assert all((tmp_path / picture).stat().st_size > 10_000 for picture in pictures)


def test_the_page_draws_its_charts_in_a_browser_or_says_so(clone: Clone, tmp_path: Path) -> None:
    """Without a network: the charts' library is where `make` puts it, or nowhere."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no Chromium")
    page = tmp_path / "dvc_plots"
    library = tmp_path / ".venv/vega.js"
    library.parent.mkdir()
    rule = (ROOT / "Makefile").read_text()
    (command,) = re.findall("python -c '(.*)' > .venv/vega.js", rule)
    library.write_text(subprocess.check_output([sys.executable, "-c", command], text=True))
    clone.dvc("plots", "show", "--out", str(page))
    charts = len(specs((page / "index.html").read_text()))

    def body() -> str:
        """The page as the browser builds it."""
        options = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        offline = ("--host-resolver-rules=MAP * ~NOTFOUND", "--no-proxy-server")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        dump = ("--virtual-time-budget=10000", "--dump-dom", (page / "index.html").as_uri())
        command = [browser, "--headless", *options, *quiet, *offline, profile, *dump]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.stdout.split("<main>")[1]

    missing = "A chart belongs here"
    drawn = body()
    assert drawn.count('class="marks"') == charts
    assert missing not in drawn
    library.unlink()
    assert body().count(missing) == charts


def test_a_change_shows_in_both_diffs(clone: Clone, tmp_path: Path) -> None:
    before = json.loads((clone.path / "metrics/summary.json").read_text())
    clone.change({"retrieval": {"k": 3}})
    clone.dvc("repro", "--quiet")
    changed = json.loads((clone.path / "metrics/summary.json").read_text())
    diff = json.loads(clone.dvc("metrics", "diff", "--json"))
    moved = {
        f"retrieval.{run}"
        for run, top1 in changed["retrieval"].items()
        if top1 != before["retrieval"][run]
    }
    assert set(diff.get("metrics/summary.json", {})) == moved
    clone.dvc("plots", "diff", "HEAD", "--out", str(tmp_path))
    for chart in specs((tmp_path / "index.html").read_text()):
        assert {row["rev"] for row in chart["data"]["values"]} == {"HEAD", "workspace"}


WIDTH = 1280 - 90  # of a chart in a window of 1280 pixels: less margins, frame and scroll bar


@pytest.mark.parametrize("template", ["actions", "confusions", "epochs", "fractions"])
def test_a_chart_of_two_revisions_and_many_actions_fits_a_window(template: str) -> None:
    """As wide as vl-convert draws it, of 120 actions."""
    columns = {
        "actions": {"action", "top1"},
        "confusions": {"predicted", "actual", "clips"},
        "epochs": {*tables.read(f"{ROOT}/metrics/pretrain/ntu60-xsub.json")[0], "linear_top1"},
        "fractions": {"fraction", "top1", "std"},
    }[template]
    values = [dict.fromkeys(columns, n) for n in range(1, 121)]
    rows = [row | {"rev": rev} for row in values for rev in ("main", "a-longer-name")]
    chart = (ROOT / f".dvc/plots/{template}.json").read_text()
    chart = chart.replace('"<DVC_METRIC_DATA>"', json.dumps(rows))
    drawn = vl_convert.vegalite_to_svg(chart.replace("<DVC_METRIC_TITLE>", "A title of a chart"))
    (width,) = re.findall(r'<svg[^>]* width="([\d.]+)"', drawn)
    assert float(width) <= WIDTH
    assert ">main<" in drawn, "no revision is named"


# ---- Pictures ------------------------------------------------------------------------------------


def test_pictures_are_the_same_bytes_again(clone: Clone) -> None:
    figures = clone.path / "data/figures"  # in DVC's cache, not in git
    assert not clone.git("ls-files", "*.png", ":!docs")
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    kinds = {"views.png", "map.png"}
    assert {name.split("-")[-1] for name in before} == kinds
    drawn = ("view_pictures@ntu60", "feature_map@ntu60-xsub")
    clone.dvc("repro", "--force", "--single-item", *drawn)
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before


def test_a_stick_figure_has_its_bones_and_hides_what_is_masked() -> None:
    parents = KINECT_V2.parents
    clip = np.random.default_rng(0).normal(size=(3, 2, len(parents), 3)).astype(np.float32)
    clip[:, 1] = 0
    hidden_joints = np.zeros(len(parents), bool)
    hidden_joints[[3, 7]] = True
    axes = Figure().subplots()
    drawing.poses(
        axes,
        clip,
        parents,
        [0, 1, 2],
        height=1,
        width=1,
        hidden_joints=hidden_joints,
        hidden_frames=np.array([False, True, False]),
    )
    solid, dotted, hollow = (
        [line for line in axes.lines if line.get_linestyle() == style]
        for style in ("-", ":", "None")
    )

    def bones(lines: list[matplotlib.lines.Line2D]) -> list[int]:
        return [int(np.isnan(np.asarray(line.get_xdata(), float)).sum()) for line in lines]

    # Joint 3 ends one bone, joint 7 has one to 6 and one from 22: the absent body has none.
    total = sum(joint != parent for joint, parent in enumerate(parents))
    assert bones(dotted) == [3, 3, 3]
    assert bones(solid) == [total - 3] * 3
    assert len(hollow) == 2, "masked joints are not drawn in a masked frame"
    assert [line.get_color() for line in solid] == [drawing.SEEN, drawing.HIDDEN, drawing.SEEN]
    first = clip[0, 0, [3, 7]]
    np.testing.assert_array_equal(hollow[0].get_xydata(), first[:, [0, 2]])


def test_two_people_are_beside_each_other_and_apart_from_the_next_moment() -> None:
    """In a clip where one stands before the other, who is absent in the last frame."""
    parents = KINECT_V2.parents
    clip = 0.2 * person(0, 60, 2)[..., [0, 2, 1]].swapaxes(0, 1).astype(np.float32)
    clip[:, 1] = clip[:, 0] + np.array([0, 0.5, 0], np.float32)
    clip[-1, 1] = 0
    axes, _ = drawing.views(
        "",
        clip,
        parents,
        [drawing.View("", "red", 0, 60, clip, np.zeros(25, bool), np.zeros(60, bool), None)],
        "",
    ).axes
    ends = {
        colour: [
            (np.nanmin(line.get_xdata()), np.nanmax(line.get_xdata()))
            for line in axes.lines
            if (line.get_color(), line.get_linestyle()) == (colour, "-")
        ]
        for colour in (drawing.SEEN, drawing.SECOND)
    }
    first, second = ends.values()
    assert len(first) - 1 == len(second) > 2
    middles = [[(a + b) / 2 for a, b in spans] for spans in (first, second)]
    metre = 60 / drawing.WIDE / drawing.height(clip)
    apart = np.subtract(middles[1], middles[0][:-1]) / metre
    np.testing.assert_allclose(apart, 0.5, atol=1e-4)
    assert all(b < after for (_, b), (after, _) in zip(second, first[1:], strict=True))


def test_a_long_name_of_an_action_is_cut() -> None:
    names = ["wave", "take something out of the pocket"]
    assert [feature_map.named(n, names, 15) for n in (0, 1)] == ["wave", "take something…"]
    assert feature_map.named(1, names, 16) == "take something…", "no space before the dots"
    assert feature_map.named(1, [], 15) == "2"


def test_dollars_in_a_name_are_no_formula() -> None:
    figure = Figure()
    figure.subplots().set_title(feature_map.named(0, ["win $_$"], 22))
    figure.savefig(io.BytesIO())


def test_bars_are_below_a_row_and_as_high_as_their_values() -> None:
    axes = Figure().subplots()
    axes.set_ylim(1, 3)
    drawing.bars(axes, np.array([0, 2, 4], np.float32))
    assert [bar.get_height() for bar in axes.patches] == [0, 0.25, 0.5]
    assert axes.get_ylim() == (0.5, 3)
    drawing.bars(axes, np.zeros(3, np.float32))
    assert [bar.get_height() for bar in axes.patches[3:]] == [0, 0, 0]
