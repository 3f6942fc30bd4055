"""The pipeline as a user runs it: `dvc repro` in a fresh clone, at a scale of seconds."""

import json
import shutil

import numpy as np
import pytest
import yaml
import zarr
from clone import Clone


def test_a_second_run_runs_nothing(clone: Clone) -> None:
    assert "Running stage" not in clone.dvc("repro")
    assert clone.stale() == set()


def test_every_stage_left_its_result(clone: Clone) -> None:
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    summary = json.loads((clone.path / "metrics/summary.json").read_text())
    assert set(summary["linear"]) == set(summary["retrieval"]) == set(params["runs"])
    assert set(summary["semi"]) == set(params["runs"])
    assert set(summary["transfer"]) == set(params["transfers"])
    assert set(summary["supervised"]) == set(params["supervised_runs"])
    assert set(summary["ensemble"]) == set(params["ensembles"])
    for run, top1 in summary["linear"].items():
        figures = json.loads((clone.path / f"metrics/linear/{run}.json").read_text())[0]
        assert {"top1", "top5", "best_top1", "untrained_top1"} <= set(figures)
        assert top1 == figures["top1"] <= figures["best_top1"] <= 100
    page = (clone.path / "metrics/README.md").read_text()
    assert "synthetic" in page
    assert "MAMP" not in page.upper(), "a synthetic result stands beside a published one"


def test_a_parameter_makes_stale_what_reads_it(clone: Clone) -> None:
    """All are changed at once: DVC says of each stage which it has read."""
    with clone.restored("params.yaml"):
        clone.change(
            {
                "linear": {"lr": 1.0},
                "retrieval": {"k": 3},
                "semi": {"balanced": True},
                "transfer": {"epochs": 2},
                "supervised": {"lr": 0.1},
                "finetune": {"batch": 8},
                "pretrain": {"temperature": 0.1},
                "views": {"flip": {"probability": 0.0}},
                "prepare": {"keepbits": 13, "workers": 1},
                "synthetic": {"noise": 0.02},
            }
        )
        readers: dict[str, set[str]] = {}
        for stage, reasons in json.loads(clone.dvc("status", "--json")).items():
            for reason in reasons:
                (changed,) = reason["changed deps"].values()  # of params.yaml
                for name in changed if isinstance(changed, dict) else ["params.yaml"]:
                    readers.setdefault(name, set()).add(stage.split("@")[0])
    assert readers == {
        "params.yaml": {"check"},
        "linear": {"linear", "floor"},
        "retrieval": {"retrieval", "floor"},
        "semi": {"semi"},
        "transfer": {"transfer"},
        "supervised": {"supervised"},
        "finetune": {"semi", "transfer", "supervised"},
        "pretrain": {"pretrain"},
        "views": {"pretrain", "view_pictures"},
        "prepare.keepbits": {"prepare"},
        "synthetic": {"synthetic"},
    }


def test_a_protocol_makes_stale_the_runs_that_use_it(clone: Clone) -> None:
    file = clone.path / "datasets/ntu60.yaml"
    described = yaml.safe_load(file.read_text())
    with clone.restored("datasets/ntu60.yaml"):
        described["protocols"]["xview"]["train"]["camera"] = [1]
        described["protocols"]["mine"] = {"train": {"subject": "odd"}}
        file.write_text(yaml.safe_dump(described))
        # Those have the names of the file's actions.
        pages = {"dataset_page", "feature_map", "run_page"}
        stale = {name.split("@")[0] for name in clone.stale()}
        assert stale == {"check"} | pages
        described["protocols"]["xsub"]["train"]["subject"].append(3)
        file.write_text(yaml.safe_dump(described))
        stale = {name.split("@")[0] for name in clone.stale()}
        assert stale == {"check", "pretrain", "embed", "floor", "semi", "supervised"} | pages


def test_what_a_user_adds_trains_nothing_again_and_touches_no_archive(small: Clone) -> None:
    """A format, a layout, a list and a dataset: preparation runs again and gives the same."""
    added = [
        small.path / "skeletons/formats/mine.py",
        small.path / "datasets/lists/mine.txt",
        small.path / "datasets/mine.yaml",
    ]
    sensors = "skeletons/sensors/__init__.py"
    with small.restored(sensors):
        added[0].write_text('"""A format of mine."""\n')
        added[1].write_text("a01\n")
        added[2].write_text((small.path / "datasets/ntu60.yaml").read_text())
        with (small.path / sensors).open("a") as file:
            file.write("\n# A layout of mine.\n")
        ran = {stage.split("@")[0] for stage in small.ran("repro")}
        assert ran == {"check", "synthetic", "prepare", "weights"}
    for path in added:
        path.unlink()
    small.git("checkout", "HEAD", "--", "dvc.lock")
    assert small.stale() == set(), "what was written again is not the same"


def test_a_changed_probe_and_an_ensemble_of_two_weighted_streams(clone: Clone) -> None:
    """The probe, what reads its scores, the page and the report run, and nothing else."""
    pair = {"joint": "ntu60-xsub", "bone": "ntu60-xsub-bone", "motion": None}
    ensembles = {"pair": {**pair, "weights": {"joint": 1, "bone": 3}}}
    clone.change({"linear": {"lr": 0.5}, "ensembles": ensembles})
    ran = {stage.split("@")[0] for stage in clone.ran("repro")}
    assert ran == {"check", "linear", "floor", "ensemble", "run_page", "report"}
    joint, bone = (
        zarr.open_group(clone.path / f"data/scores/{pair[stream]}.zarr", mode="r")
        for stream in ("joint", "bone")
    )
    mean = 0.25 * np.asarray(joint["scores"]) + 0.75 * np.asarray(bone["scores"])
    top1 = 100 * (mean.argmax(1) == np.asarray(bone["label"])).mean()
    found = json.loads((clone.path / "metrics/summary.json").read_text())["ensemble"]
    assert found["pair"] == pytest.approx(top1, abs=0.01)
    page = (clone.path / "metrics/README.md").read_text()
    assert "| pair | xsub | 1 joint, 3 bone |" in page


def test_other_weights_under_the_same_path_are_taken_anew(small: Clone) -> None:
    theirs = small.path.parent / "theirs.pt"
    run = "ntu60-xsub"
    shutil.copyfile(small.path / f"data/weights/{run}.pt", theirs)
    with small.restored("params.yaml", "dvc.lock"):
        small.change({"runs": {run: {"weights": str(theirs)}}})
        assert {f"weights@{run}", f"pretrain@{run}"} <= small.ran("repro", f"pretrain@{run}")
        assert small.ran("repro", f"pretrain@{run}") == set()
        shutil.copyfile(small.path / f"data/epochs/{run}/none.txt", theirs.with_suffix(".new"))
        theirs.with_suffix(".new").rename(theirs)
        small.dvc("repro", f"pretrain@{run}", fails=True)
    small.dvc("checkout")
    assert f"pretrain@{run}" not in small.ran("repro", f"pretrain@{run}")
    assert small.stale() == set()


def test_a_run_is_a_function_of_its_parameters(small: Clone) -> None:
    """The same weights and curve again, but for the time that it took."""
    weights, curve = (
        small.path / name
        for name in ("data/weights/ntu60-xsub.pt", "metrics/pretrain/ntu60-xsub.json")
    )

    def results() -> tuple[bytes, list[dict[str, float]], list[float]]:
        rows = json.loads(curve.read_text())
        return weights.read_bytes(), rows, [row.pop("clips_per_second") for row in rows]

    again = ("repro", "--force", "--single-item", "pretrain@ntu60-xsub")
    before = results()
    small.dvc(*again)
    after = results()
    assert after[:2] == before[:2]
    columns = ["epoch", "loss", "ti", "si", "it", "is", "accuracy", "lr", "linear_top1"]
    assert list(after[1][0]) == columns
    assert all(speed > 0 for speed in after[2])
    assert small.stale() == set(), "another stage reads the time that it took"
    found = []
    for _ in range(2):
        small.dvc(*again, OMP_NUM_THREADS="2")  # as most users have it
        found.append(results()[:2])
    assert found[0] == found[1]
