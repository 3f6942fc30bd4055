"""Put a run's test clips on a map by t-SNE, with their nearest training clips, ready to play."""

from experiment import artifacts
from experiment.parameters import params
from experiment.reports import drawing, feature_map
from experiment.workflow import console
from skeletons.clips import protocols, store


def main(run: str) -> str:
    p = params.read()
    dataset, protocol = p.runs[run].dataset, p.runs[run].protocol
    stored = store.read(artifacts.store(dataset))
    clips = protocols.relabelled(stored, p.datasets[dataset].protocols[protocol].rule)
    train, test = (artifacts.read_features(run, side) for side in ("train", "test"))
    mapped = feature_map.content(clips, train, test, p.seed)
    figure = feature_map.picture(run, mapped["test"], p.actions(dataset, protocol))
    picture = drawing.save(figure, artifacts.FIGURES / f"{run}-map.png")
    return f"{artifacts.write_map(run, mapped)} and {picture}"


if __name__ == "__main__":
    console.run(main)
