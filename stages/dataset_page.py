"""Make a dataset's page: clips of every action and subject playing, to see that they are right."""

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import pages
from experiment.workflow import console
from skeletons.clips import store


def main(dataset: str) -> str:
    p = params.read()
    clips = store.read(artifacts.store(dataset))
    described = {
        "dataset": dataset,
        "synthetic": p.sources[dataset] == "synthetic",
        "actions": pages.actions(clips.classes, p.actions(dataset)),
    }
    page = pages.fill("dataset.html", described | pages.dataset(clips))
    return artifacts.write_page(artifacts.dataset_page(dataset), page)


if __name__ == "__main__":
    console.run(main)
