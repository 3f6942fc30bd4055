"""Stage prepare: data/raw/<dataset>/ -> data/<dataset>.zarr, and which clips were left out."""

import csv
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from errors import UserError
from experiment import console, params
from skeletons.reading.archive import ArchiveError
from skeletons.reading.prepare import BrokenClips, Dataset, prepare
from skeletons.reading.recording import Broken
from skeletons.sensors import LAYOUTS


def main(dataset: str) -> str:
    p = params.read()
    entry, settings = p["datasets"][dataset], p["prepare"]
    raw = Path("data/raw", dataset)
    expected = entry["expected"] or {}
    output = Path("data", f"{dataset}.zarr")
    listing = Path("metrics/prepare", f"{dataset}.csv")
    try:
        report = prepare(
            output,
            Dataset(
                format=entry["format"],
                layout=LAYOUTS[entry["layout"]],
                classes=entry["classes"],
                skeletons=[raw / name for name in entry["archives"]["skeletons"]],
                labels=[raw / name for name in entry["archives"]["labels"]],
                splits=[raw / name for name in entry["archives"]["splits"]],
                leave_out=Path(entry["leave_out"]) if entry["leave_out"] else None,
                expected=expected,
            ),
            **settings,
            # DVC may run this in a copy of the project: unfinished work stays with the project
            scratch=Path(os.environ.get("DVC_ROOT", ""), ".scratch"),
        )
    except (ArchiveError, BrokenClips) as error:
        said = str(error)
        if isinstance(error, BrokenClips):
            write_list(listing, error.broken)
            said += f"\nall broken clips: {listing}"
        # DVC does not watch archives, which may be anywhere.
        again = f"dvc repro --force --single-item raw@{dataset}"
        raise UserError(f"{said}\nwhen the archives have changed: {again}") from None
    write_list(listing, report.broken)
    if report.missing:
        print(f"{dataset}: not complete, lacks {report.missing}", file=sys.stderr)
    if report.broken:
        print(f"{dataset}: {len(report.broken)} clips left out, see {listing}", file=sys.stderr)
    if report.absent_joints:
        joints = ", ".join(map(str, report.absent_joints))
        print(
            f"{dataset}: joints zero in every clip, counted from 0: {joints}; is {entry['layout']} "
            "the layout of these archives?",
            file=sys.stderr,
        )
    whole = f" of {expected['clips']:,}" if expected.get("clips") else ""
    listed = f", {report.listed} left out by {entry['leave_out']}" if report.listed else ""
    return f"{output}: {report.clips:,}{whole} clips, {report.frames:,} frames{listed}"


def write_list(path: Path, broken: Iterable[Broken]) -> None:
    """Write the list of broken clips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "file", "line", "reason"])
        writer.writerows(entry[:4] for entry in broken)


if __name__ == "__main__":
    console.run(main)
