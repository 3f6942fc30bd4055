"""Show a dataset, to see that it is right: a picture of clips of its actions, and a page on which
clips of every action and subject play.
"""

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing, pages, pictures
from experiment.workflow import console
from skeletons.clips import store


def main(dataset: str) -> str:
    p = params.read()
    clips, names = store.read(artifacts.store(dataset)), p.actions(dataset)
    figure = pictures.actions(dataset, clips, names)
    picture = drawing.save(figure, artifacts.FIGURES / f"{dataset}-clips.png")
    described = {
        "dataset": dataset,
        "synthetic": p.sources[dataset] == "synthetic",
        "actions": pages.actions(clips.classes, names),
    }
    page = pages.fill("dataset.html", described | pages.dataset(clips))
    return f"{artifacts.write_page(artifacts.dataset_page(dataset), page)}, and {picture}"


if __name__ == "__main__":
    console.run(main)
