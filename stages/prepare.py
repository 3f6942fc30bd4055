"""Prepare a dataset: data/raw/<dataset>/ -> data/<dataset>.zarr, which clips were left out, and a
summary of the others.
"""

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from errors import UserError
from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import checks, params
from experiment.workflow import console
from skeletons import sensors
from skeletons.archives.archive import ArchiveError
from skeletons.archives.recordings import Broken
from skeletons.clips import store
from skeletons.preparing import summary
from skeletons.preparing.job import BrokenClips, Job, prepare
from skeletons.preparing.make_clips import Recipe


def main(dataset: str) -> str:
    p = params.read()
    entry, raw, output = p.datasets[dataset], artifacts.RAW / dataset, artifacts.store(dataset)
    archives, layout = entry.archives, sensors.layout(**entry.sensor)
    metrics = f"metrics/prepare/{dataset}"
    listing = f"{metrics}.csv"
    job = Job(
        Recipe(layout=layout, **p.recipe(dataset)),
        skeletons=[raw / name for name in archives.skeletons],
        labels=[raw / name for name in archives.labels],
        splits=[raw / name for name in archives.splits],
        options={"interval": p.prepare.interval},
        leave_out=Path(archives.leave_out) if archives.leave_out else None,
        expected={name: getattr(archives, name) for name in ("clips", "setups", "cameras")},
        require_complete=p.prepare.require_complete,
        on_error=p.prepare.on_error,
    )
    try:
        report = prepare(
            output,
            job,
            scratch=artifacts.scratch(),
            executor=p.prepare.executor,
            workers=p.prepare.workers,
        )
    except (ArchiveError, BrokenClips) as error:
        said = list(error.args)
        if isinstance(error, BrokenClips):
            write_list(listing, error.broken)
            said.append(f"all broken clips: {listing}")
        # DVC does not watch archives, which may be anywhere.
        again = f"dvc repro --force --single-item raw@{dataset}"
        raise UserError(*said, f"when the archives have changed: {again}") from None
    write_list(listing, report.broken)
    if report.missing:
        print(f"{dataset}: not complete, lacks {report.missing}", file=sys.stderr)
    if report.broken:
        print(f"{dataset}: {len(report.broken)} clips left out, see {listing}", file=sys.stderr)
    measures = summary.measure(output, layout, report.absent_joints)
    found = summary.summarise(output, report, measures)
    warnings = list(summary.warnings(found, measures, layout))
    told = {**asdict(found), "warnings": warnings}
    # A list, as all tables of metrics/ but summary.json, whose numbers alone `dvc metrics` shows.
    tables.write_json(f"{metrics}.json", [told])
    print(f"{dataset}: {summary.paragraph(found)}")
    for line in warnings:
        print(f"{dataset}: {line}", file=sys.stderr)
    for line in checks.on_dataset(p, dataset, store.read(output, frames=False)):
        print(f"{dataset}: {params.PATH}: {line}", file=sys.stderr)
    whole = f" of {archives.clips:,}" if archives.clips else ""
    leave_out = archives.leave_out
    listed = f", {report.listed} of the {report.named} on {leave_out} left out" if leave_out else ""
    return f"{output}: {report.clips:,}{whole} clips, {report.frames:,} frames{listed}"


def write_list(path: str, broken: Iterable[Broken]) -> None:
    """Write the list of broken clips."""
    tables.write_csv(path, ("clip", "file", "line", "reason"), [entry[:4] for entry in broken])


if __name__ == "__main__":
    console.run(main)
