"""Stage prepare: data/raw/<dataset>/ -> data/<dataset>.zarr, and which clips were left out."""

import csv
import os
import sys
from pathlib import Path

from experiment import console, params
from skeletons.reading.archive import ArchiveError
from skeletons.reading.prepare import BrokenClips, Dataset, prepare
from skeletons.sensors import LAYOUTS


def main(dataset: str) -> str:
    p = params.read()
    entry, settings = p["datasets"][dataset], p["prepare"]
    raw = Path("data/raw", dataset)
    expected = entry["expected"] or {}
    output = Path("data", f"{dataset}.zarr")
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
        # DVC does not watch archives, which may be anywhere.
        again = f"dvc repro --force --single-item raw@{dataset}"
        raise ValueError(f"{error}\nwhen the archives have changed: {again}") from None
    listing = Path("metrics/prepare", f"{dataset}.csv")
    listing.parent.mkdir(parents=True, exist_ok=True)
    with listing.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "file", "line", "reason"])
        writer.writerows(broken[:4] for broken in report.broken)
    if report.missing:
        print(f"{dataset}: not complete, lacks {report.missing}", file=sys.stderr)
    if report.broken:
        print(f"{dataset}: {len(report.broken)} clips left out, see {listing}", file=sys.stderr)
    whole = f" of {expected['clips']:,}" if expected.get("clips") else ""
    listed = f", {report.listed} left out by {entry['leave_out']}" if report.listed else ""
    return f"{output}: {report.clips:,}{whole} clips, {report.frames:,} frames{listed}"


if __name__ == "__main__":
    console.run(main)
