"""Make a run's page: its test clips on a map and in a confusion matrix, and each one playing."""

from experiment import artifacts
from experiment.artifacts import tables
from experiment.parameters import params
from experiment.reports import pages, results_page
from experiment.workflow import console
from learning.probing.scores import confusion


def main(run: str) -> str:
    p = params.read()
    described = p.runs[run]
    scores = artifacts.read_scores(run)
    classes = scores.scores.shape[1]
    linear, retrieval, floor = (
        tables.read(f"metrics/{kind}/{run}.json")[0] for kind in ("linear", "retrieval", "floor")
    )
    page = {
        "run": run,
        "synthetic": p.sources[described.dataset] == "synthetic",
        **described.noted,
        "accuracies": [
            results_page.accuracy("linear", linear, floor),
            results_page.accuracy("retrieval", retrieval, floor),
        ],
        "actions": pages.actions(classes, p.actions(described.dataset, described.protocol)),
        **pages.run(
            artifacts.read_map(run),
            scores,
            confusion(scores.scores.argmax(1), scores.label, classes),
        ),
    }
    return artifacts.write_page(artifacts.run_page(run), pages.fill("run.html", page))


if __name__ == "__main__":
    console.run(main)
