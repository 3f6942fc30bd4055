"""Prepare a dataset: data/raw/<dataset>/ -> data/<dataset>.zarr, and which clips were left out."""

import csv
import sys
from pathlib import Path

from errors import UserError
from experiment import artifacts, checks, console, params
from skeletons import store
from skeletons.reading.archive import ArchiveError
from skeletons.reading.prepare import BrokenClips, prepare
from skeletons.sensors import LAYOUTS


def main(dataset: str) -> str:
    p = params.read()
    entry, raw, output = p.datasets[dataset], artifacts.RAW / dataset, artifacts.store(dataset)
    archives = entry.archives
    try:
        report = prepare(
            output,
            format=entry.format,
            layout=LAYOUTS[entry.layout],
            classes=entry.classes,
            skeletons=[raw / name for name in archives.skeletons],
            labels=[raw / name for name in archives.labels],
            splits=[raw / name for name in archives.splits],
            leave_out=Path(archives.leave_out) if archives.leave_out else None,
            expected={name: getattr(archives, name) for name in ("clips", "setups", "cameras")},
            **dict(p.prepare),
            scratch=artifacts.scratch(),
        )
    except (ArchiveError, BrokenClips) as error:
        # DVC does not watch archives, which may be anywhere.
        again = f"dvc repro --force --single-item raw@{dataset}"
        raise UserError(f"{error}\nwhen the archives have changed: {again}") from None
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
    for line in checks.on_dataset(p, dataset, store.read(output, frames=False)):
        print(f"{dataset}: {params.PATH}: {line}", file=sys.stderr)
    whole = f" of {archives.clips:,}" if archives.clips else ""
    listed = f", {report.listed} left out by {archives.leave_out}" if report.listed else ""
    return f"{output}: {report.clips:,}{whole} clips, {report.frames:,} frames{listed}"


if __name__ == "__main__":
    console.run(main)
