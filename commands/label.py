"""Label recordings: the three most probable actions of each, and the nearest training clips.

A recording is a file in the format of the run's dataset, whatever its name, or an archive of them
(a zip, a folder, an npz). Of the formats that hold many clips in a file or folder (pyskl, ctrgcn,
agcn) it is that, or `archive/clip`. It is prepared as the dataset is, and read from where it lies;
the probability is the softmax of the scores of `linear`'s classifier, and nearness the cosine of
features. Actions count from 1; in JSON, `label` is the dataset's own, from 0. With --every 64, a
long recording is labelled in windows of 64 frames.

    python -m commands.label ntu60-xsub recording.skeleton more.zip
    python -m commands.label ntu60-xsub recording.skeleton --every 64 --json
    python -m commands.label mine-xsub NTU60_CS.npz/NTU60_CS-test-000017
"""

import argparse
import json
import sys
from collections.abc import Iterator
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
from skeletons import formats, sensors
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import Broken, Clip, Recording, Source, counted, listed
from skeletons.clips import store
from skeletons.formats.arrays import TABLE
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
    seen = [window.frames for _, window in windows if len(window.frames)]
    features = extract(
        folded(encoder).represent,
        DeviceClips.unlabelled(seen, layout),
        np.arange(len(seen)),
        Viewing(encoder.architecture["frames"], described.stream, **dict(p.embed)),
    )
    weight, bias = map(torch.from_numpy, artifacts.read_classifier(run))
    probable = (features @ weight.T + bias).softmax(dim=1).topk(min(SHOWN, len(bias)), dim=1)
    train = artifacts.read_features(run, "train")
    gallery = torch.from_numpy(train.features)
    neighbours = nearest(features, gallery, min(SHOWN, len(gallery)))
    cosines = torch.cosine_similarity(features[:, None], gallery[neighbours], dim=2)
    clips = _names_of_clips(described.dataset)
    names = p.actions(described.dataset, described.protocol)
    numbers = dataset.protocols[described.protocol].actions or range(1, dataset.classes + 1)

    def action(label: int) -> dict[str, Any]:
        """An action as the run counts it, from 1, as the dataset does, from 0, and by its name."""
        name = {"name": names[label]} if names else {}
        return {"action": label + 1, "label": numbers[label] - 1, **name}

    answers = (
        {
            "actions": [
                {**action(label), "probability": round(probability, 4)}
                for label, probability in zip(labels, probabilities, strict=True)
            ],
            "nearest": [
                {
                    "clip": clips[train.clip[row]] if clips else int(train.clip[row]),
                    **action(int(train.label[row])),
                    "cosine": round(cosine, 4),
                }
                for row, cosine in zip(rows, near, strict=True)
            ],
        }
        for labels, probabilities, rows, near in zip(
            probable.indices.tolist(),
            probable.values.tolist(),
            neighbours.tolist(),
            cosines.tolist(),
            strict=True,
        )
    )
    return [
        {
            "recording": place,
            "frames": [window.start, window.end],
            "people": int(window.frames.any(axis=(0, 2, 3)).sum()),
            "left_out": window.dropped,
            **(next(answers) if len(window.frames) else {"actions": [], "nearest": []}),
        }
        for place, window in windows
    ]


def read(
    paths: list[Path], recipe: Recipe, *, every: int | None
) -> tuple[list[tuple[str, Window]], list[Broken]]:
    """The recordings that paths name, whole or in windows, each with its place; and broken ones."""
    windows: list[tuple[str, Window]] = []
    broken: list[Broken] = []
    for place, recording in (found for path in paths for found in _recordings(path, recipe)):
        if isinstance(recording, Broken):
            broken.append(recording)
            continue
        for made in make_clips(recording, recipe, every=every):
            if isinstance(made, Broken):
                broken.append(made._replace(file=place))
            else:
                # Without the bodies, which take more memory than the frames.
                windows.append((place, made._replace(bodies=made.bodies[:0].copy())))
    return windows, broken


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as lines in columns."""
    head = ["recording", "frames", "people", "actions", "nearest training clips (action, cosine)"]
    cells = [head]
    for row in rows:
        start, end = row["frames"]
        people = f"{row['people']}" if row["people"] else "nobody"
        if row["left_out"]:
            people += f" of {row['people'] + row['left_out']}"
        actions = [f"{_said(a)} ({a['probability']:.0%})" for a in row["actions"]]
        near = [f"{n['clip']} ({_said(n)}, {n['cosine']:.2f})" for n in row["nearest"]]
        found = "  ".join(actions), "  ".join(near)
        cells.append([row["recording"], f"{start}-{end}", people, *found])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _said(action: dict[str, Any]) -> str:
    """The name of an action, else its number."""
    return str(action.get("name", action["action"]))


def _check_there(run: str) -> None:
    """Raises UserError unless the artifacts that are needed are there."""
    needed = (artifacts.weights(run), artifacts.classifier(run), artifacts.features(run))
    if missing := [path for path in needed if not path.exists()]:
        names = " ".join(map(str, needed))
        raise UserError(f"{missing[0]} is not there: dvc pull {names}, or dvc repro linear@{run}")


def _recordings(path: Path, recipe: Recipe) -> Iterator[tuple[str, Recording | Broken]]:
    """The recordings that a path names, each with its place: of a format that has many in a file or
    folder, those that it plans, or one of them; else the file, or those of an archive of nothing
    else.

    Raises UserError for a path that names none.
    """
    if not formats.states_splits(recipe.format):  # as those with many do
        for member in _members(path):
            place = printable(Path(member.place).as_posix())
            yield place, Recording(member, (Clip(member.stem, 0),))
        return
    whole = path.exists()
    source = path if whole else path.parent
    try:
        recordings, broken = formats.plan(recipe.format, Source([source], recipe.classes))
    except ArchiveError:
        if whole or source.is_file():
            raise
        raise UserError(f"{path}: no such recording or archive") from None
    found: list[tuple[str, Recording | Broken]] = [(one.clip, one) for one in broken]
    found += [(one.clips[0].name, one) for one in recordings]
    if not whole and path.name not in dict(found):
        raise UserError(f"{path}: {source} has no clip {path.name}")
    for name, one in found:
        if whole or name == path.name:
            yield printable(f"{source.as_posix()}/{name}"), one


def _members(path: Path) -> Iterator[Member]:
    """The files that a path names, but for tables of arrays; of an npz, its arrays."""
    zipped, _ = archive.split_path(path)
    if path.name.lower() == TABLE:
        raise UserError(f"{path}: a table of recordings, not one of them: name its folder")
    if path.is_dir() or zipped.suffix.lower() in (".zip", ".npz"):
        for member in archive.members(path, ""):
            packed = Path(member.place)
            if packed.suffix.lower() == ".npz" and member.start is None:
                yield from archive.members(packed, "")
            elif packed.name.lower() != TABLE:
                yield member
    elif path.is_file():
        status = path.stat()
        yield Member(str(path.parent), path.name, status.st_size, status.st_mtime_ns)
    else:
        raise UserError(f"{path}: no such recording or archive")


def _check_broken(windows: list[tuple[str, Window]], broken: list[Broken], *, skip: bool) -> None:
    """Raises UserError for what is broken, or says it where it is to be skipped; and if nobody is
    seen.
    """
    somebody = any(len(window.frames) for _, window in windows)
    stopping = [entry for entry in broken if entry.stops]
    if stopping and not (skip and somebody):
        raise UserError(
            f"{counted(len(stopping), 'broken recording')}; fix or leave out, or set "
            "prepare.on_error: skip:",
            *(f"  {line}" for line in listed(stopping)),
        )
    for entry in broken:
        print(f"left out: {entry}", file=sys.stderr)
    if not somebody:
        raise UserError("no recording has a body")


def _names_of_clips(dataset: str) -> list[str]:
    """The names of a dataset's clips; none where its store is not there."""
    path = artifacts.store(dataset)
    return list(map(str, store.read(path, frames=False).name)) if path.exists() else []


if __name__ == "__main__":
    main()
