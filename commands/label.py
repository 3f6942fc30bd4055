"""Label recordings: the three most probable actions of each, and the nearest training clips.

A recording is a file in the format of the run's dataset, whatever its name, or an archive of them
(a zip or a folder). It is prepared as the dataset is, and read from where it lies; the probability
is the softmax of the scores of `linear`'s classifier, and nearness the cosine of features. Actions
count from 1. With --every 64, a long recording is labelled in windows of 64 frames.

    python -m commands.label ntu60-xsub recording.skeleton more.zip
    python -m commands.label ntu60-xsub recording.skeleton --every 64 --json
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from errors import UserError, printable
from experiment import artifacts
from experiment.parameters import params
from experiment.running import inputs
from experiment.workflow import console
from learning.probing.features import Viewing, extract
from learning.probing.probes import nearest
from learning.training.device_clips import DeviceClips
from model.network.folding import folded
from skeletons import sensors
from skeletons.archives import archive
from skeletons.archives.archive import Member
from skeletons.archives.recordings import Broken, Clip, Recording, counted, listed
from skeletons.clips import store
from skeletons.preparing.make_clips import Recipe, Window, make_clips

SHOWN = 3  # actions, and training clips


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.label",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="a run of params.yaml after `linear`")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recording or archive")
    parser.add_argument(
        "--every", type=int, metavar="FRAMES", help="label windows of so many frames"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()

    def said() -> str:
        rows = label(given.run, given.files, every=given.every)
        return json.dumps(rows, indent=2) if given.json else table(rows)

    console.say(f"label {given.run}", said)


def label(run: str, files: list[Path], *, every: int | None = None) -> list[dict[str, Any]]:
    """Label recordings, or windows of them: a row each.

    Raises UserError for broken recordings, unless `prepare.on_error` skips them with a line.
    """
    if every is not None and every < 1:
        raise UserError(f"--every is {every}, allowed: at least 1 frame")
    p = params.read()
    described = p.runs[run]
    _check_there(run)
    dataset = p.datasets[described.dataset]
    layout = sensors.layout(**dataset.sensor)
    recipe = Recipe(layout=layout, **p.recipe(described.dataset))
    encoder = inputs.pretrained(p, run, layout)
    windows, broken = read(files, recipe, every=every)
    _check_broken(windows, broken, skip=p.prepare.on_error == "skip")
    features = extract(
        folded(encoder).represent,
        DeviceClips.unlabelled([window.frames for _, window in windows], layout),
        np.arange(len(windows)),
        Viewing(encoder.architecture["frames"], described.stream, **dict(p.embed)),
    )
    weight, bias = map(torch.from_numpy, artifacts.read_classifier(run))
    probable = (features @ weight.T + bias).softmax(dim=1).topk(min(SHOWN, len(bias)), dim=1)
    train = artifacts.read_features(run, "train")
    gallery = torch.from_numpy(train.features)
    neighbours = nearest(features, gallery, min(SHOWN, len(gallery)))
    cosines = torch.cosine_similarity(features[:, None], gallery[neighbours], dim=2)
    clips = _names_of_clips(described.dataset)
    synthetic = p.sources[described.dataset] == "synthetic"  # whose actions are others
    names = [] if synthetic else dataset.names
    return [
        {
            "recording": place,
            "frames": [window.start, window.end],
            "actions": [
                {**_action(action, names), "probability": round(probability, 4)}
                for action, probability in zip(actions, probabilities, strict=True)
            ],
            "nearest": [
                {
                    "clip": clips[train.clip[row]] if clips else int(train.clip[row]),
                    **_action(int(train.label[row]), names),
                    "cosine": round(cosine, 4),
                }
                for row, cosine in zip(rows, near, strict=True)
            ],
        }
        for (place, window), actions, probabilities, rows, near in zip(
            windows,
            probable.indices.tolist(),
            probable.values.tolist(),
            neighbours.tolist(),
            cosines.tolist(),
            strict=True,
        )
    ]


def read(
    paths: list[Path], recipe: Recipe, *, every: int | None
) -> tuple[list[tuple[str, Window]], list[Broken]]:
    """The recordings that paths name, whole or in windows, each with its place; and broken ones."""
    windows, broken = [], []
    for member in _members(paths):
        recording = Recording(member, (Clip(member.stem, 0),))
        place = printable(Path(member.place).as_posix())
        for made in make_clips(recording, recipe, every=every):
            if isinstance(made, Broken):
                broken.append(made._replace(file=place))
            else:
                windows.append((place, made))
    return windows, broken


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as lines in columns."""
    cells = [["recording", "frames", "actions", "nearest training clips (action, cosine)"]]
    for row in rows:
        start, end = row["frames"]
        actions = [f"{_said(a)} ({a['probability']:.0%})" for a in row["actions"]]
        near = [f"{n['clip']} ({_said(n)}, {n['cosine']:.2f})" for n in row["nearest"]]
        cells.append([row["recording"], f"{start}-{end}", "  ".join(actions), "  ".join(near)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _action(label: int, names: list[str]) -> dict[str, Any]:
    """An action by its number, from 1, and by its name where the dataset has names."""
    return {"action": label + 1, **({"name": names[label]} if names else {})}


def _said(action: dict[str, Any]) -> str:
    """The name of an action, else its number."""
    return str(action.get("name", action["action"]))


def _check_there(run: str) -> None:
    """Raises UserError unless the artifacts that are needed are there."""
    needed = (artifacts.weights(run), artifacts.classifier(run), artifacts.features(run))
    if missing := [path for path in needed if not path.exists()]:
        names = " ".join(map(str, needed))
        raise UserError(f"{missing[0]} is not there: dvc pull {names}, or dvc repro linear@{run}")


def _members(paths: list[Path]) -> list[Member]:
    """The recordings that paths name: each is a recording, or an archive of nothing else.

    Raises UserError for a path that is neither.
    """
    found = []
    for path in paths:
        zipped, _ = archive.split_path(path)
        if path.is_dir() or zipped.suffix.lower() == ".zip":
            found += archive.members(path, "")
        elif path.is_file():
            status = path.stat()
            found.append(Member(str(path.parent), path.name, status.st_size, status.st_mtime_ns))
        else:
            raise UserError(f"{path}: no such recording or archive")
    return found


def _check_broken(windows: list[tuple[str, Window]], broken: list[Broken], *, skip: bool) -> None:
    """Raises UserError for what is broken, or says it where it is to be skipped."""
    stopping = [entry for entry in broken if entry.stops]
    if stopping and not (skip and windows):
        raise UserError(
            f"{counted(len(stopping), 'broken recording')}; fix or leave out, or set "
            "prepare.on_error: skip:",
            *(f"  {line}" for line in listed(stopping)),
        )
    for entry in broken:
        print(f"left out: {entry}", file=sys.stderr)
    if not windows:
        raise UserError("no recording has a body")


def _names_of_clips(dataset: str) -> list[str]:
    """The names of a dataset's clips; none where its store is not there."""
    path = artifacts.store(dataset)
    return list(map(str, store.read(path, frames=False).name)) if path.exists() else []


if __name__ == "__main__":
    main()
