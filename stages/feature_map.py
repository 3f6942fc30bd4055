"""Put a run's test clips on a map by t-SNE, with their nearest training clips, as a file from which
a page plays them and as pictures.
"""

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing, feature_map
from experiment.workflow import console
from skeletons.clips import store


def main(run: str) -> str:
    p = params.read()
    dataset = p.runs[run].dataset
    names = p.actions(dataset)
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    clips = store.read(artifacts.store(dataset))
    mapped = feature_map.content(clips, train, test, p.seed)
    written = artifacts.write_map(run, mapped)
    found = feature_map.neighbours_picture(run, clips, train, test, names)
    drawing.save(found, artifacts.FIGURES / f"{run}-retrieval.png")
    picture = feature_map.map_picture(run, mapped["test"], names)
    drawing.save(picture, artifacts.FIGURES / f"{run}-map.png")
    return f"{written}, {artifacts.FIGURES}/{run}-retrieval.png and -map.png"


if __name__ == "__main__":
    console.run(main)
