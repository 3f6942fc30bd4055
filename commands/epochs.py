"""Evaluate the encoders that a run kept of earlier epochs, as `linear` and `retrieval` do the last.

`pretrain.keep_epochs` says which were kept; the result of a run is its last epoch.

    python -m commands.epochs ntu60-xsub          # a table: top-1 accuracies in % of each epoch
    python -m commands.epochs ntu60-xsub --json   # the same as JSON
"""

import argparse
import json
from typing import Any

from errors import UserError
from experiment import artifacts
from experiment.parameters import params
from experiment.running import inputs
from experiment.workflow import console
from learning.probing.features import labelled
from learning.probing.probes import Labelled, linear_probe, retrieval
from learning.training.settings import SGD


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.epochs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="under `runs` of params.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()

    def said() -> str:
        rows = evaluate(given.run)
        return json.dumps(rows, indent=2) if given.json else table(rows)

    console.say(f"epochs {given.run}", said)


def evaluate(run: str) -> list[dict[str, Any]]:
    """The epochs that a run kept, with their top-1 accuracies (%) by a linear classifier and by
    retrieval.

    Raises UserError if none was kept.
    """
    p = params.read()
    kept = sorted(artifacts.epochs(run).glob("*.pt"), key=lambda file: int(file.stem))
    if not kept:
        raise UserError(
            f"{artifacts.epochs(run)} has no encoder: dvc pull it, or set pretrain.keep_epochs"
        )
    task = inputs.load(p, p.runs[run])
    device, rows = task.clips.device, []
    for file in console.bar(f"epochs {run}", "encoder")(kept):
        encoder = inputs.pretrained(p, run, task.clips.layout, file)
        viewing = inputs.viewing(p, encoder, task, precision=p.embed.precision)
        train, test = labelled(encoder, task, viewing)
        probe = linear_probe(
            train,
            test,
            SGD(**p.linear.model_dump(exclude={"batch"})),
            classes=task.clips.classes,
            batch=p.linear.batch,
            seed=p.seed,
            device=device,
        )
        nearest = retrieval(
            *(Labelled(*(part.to(device) for part in side)) for side in (test, train)),
            k=p.retrieval.k,
        )
        rows.append(
            {
                "epoch": int(file.stem),
                "linear": round(probe.last.top1, 2),
                "retrieval": round(nearest.top1, 2),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as lines in columns."""
    lines = [f"{row['epoch']:5}  {row['linear']:6.2f}  {row['retrieval']:9.2f}" for row in rows]
    return "\n".join(["epoch  linear  retrieval", *lines])


if __name__ == "__main__":
    main()
