"""The page of results: a section for each dataset, a table for each evaluation.

A result on synthetic archives is never set beside a published one: it says that the pipeline
learns, not how well SCD-Net recognises actions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiment.artifacts import tables
from experiment.parameters.schema import Ensemble, Params, Run

Figures = Mapping[str, Any]  # by kind of evaluation and name: its figures
HEAD = ("run", "protocol", "stream")


def page(p: Params, found: Figures, published: Mapping[str, Any]) -> str:
    """The results as Markdown: a section for each dataset, a table for each evaluation."""
    parts = [
        "# Results",
        "Top-1 accuracy in % after the last epoch. `dvc repro` writes this page. Untrained: the "
        "same encoder before pretraining; coordinates: the clips as it sees them, without one.",
    ]
    for dataset, source in p.sources.items():
        real = source != "synthetic"
        parts.append(f"## {dataset}: {'real' if real else 'synthetic'} recordings")
        if not real:
            parts.append(
                f"Synthetic recordings in the format of {dataset}. Nothing here can be compared "
                "with a published result; compare with the untrained encoder and with coordinates."
            )
        parts += evaluations(p, found, published if real else {}, dataset)
        parts += pictures(p, dataset)
    return "\n\n".join(parts) + "\n"


def evaluations(
    p: Params, found: Figures, published: Mapping[str, Any], dataset: str
) -> Iterator[str]:
    """A table for each evaluation that the dataset has, the `published` results below it."""
    runs = {name: run for name, run in p.runs.items() if run.dataset == dataset}
    supervised = {n: run for n, run in p.supervised_runs.items() if run.dataset == dataset}
    transfers = {n: t for n, t in p.transfers.items() if t.target == dataset}
    protocols = [f"{dataset}-{run.protocol}" for run in runs.values()]

    def evaluated(kind: str, named: Mapping[str, Run], *keys: str) -> list[list[str]]:
        return [
            [
                *(name, run.protocol, run.stream),
                *percents(found[kind][name] | found["floor"].get(name, {}), keys),
            ]
            for name, run in named.items()
        ]

    keys = ("top1", "top5", "best_top1", "untrained_top1", "linear_top1")
    rows = evaluated("linear", runs, *keys)
    rows += [
        [name, runs[one].protocol, combined(e), *percents(found["ensemble"][name], keys)]
        for name, e in p.ensembles.items()
        for one in list(e.runs.values())[:1]
        if set(e.runs.values()) <= set(runs)
    ]
    yield from section(
        "Linear evaluation",
        [*HEAD, "top-1", "top-5", "best epoch", "untrained", "coordinates"],
        rows,
    )
    yield from weak("linear", found, runs)
    yield from beside(published, "linear", protocols)

    rows = evaluated("retrieval", runs, "top1", "untrained_top1", "retrieval_top1")
    yield from section("Retrieval", [*HEAD, "top-1", "untrained", "coordinates"], rows)
    yield from weak("retrieval", found, runs)
    yield from beside(published, "retrieval", protocols)

    # The mean and the standard deviation of the draws.
    semi = {run: found["semi"][run] for run in runs}
    fractions = list(next(iter(semi.values()), ()))
    rows = [
        [run, *(" ± ".join(percents(row, ("top1", "std"))) for row in by_fraction.values())]
        for run, by_fraction in semi.items()
    ]
    yield from section("Semi-supervised", ["run", *fractions], rows)
    for protocol in p.datasets[dataset].protocols:
        yield from beside(published, f"semi-{dataset}-{protocol}", fractions)

    rows = evaluated("supervised", supervised, "top1", "top5")
    about = "The same encoder trained with all labels of the training clips, from scratch."
    yield from section("Supervised", [*HEAD, "top-1", "top-5"], rows, about)

    rows = [
        [n, t.run, t.protocol, *percents(found["transfer"][n], ("top1",))]
        for n, t in transfers.items()
    ]
    yield from section("Transfer", ["transfer", "pretrained run", "protocol", "top-1"], rows)
    sources = [p.runs[t.run].dataset for t in transfers.values()]
    real = [source for source in sources if p.sources[source] != "synthetic"]
    yield from beside(published, f"transfer-to-{dataset}", real)

    made = {run: found["weights"][run] for run in runs}
    columns = [name for name in next(iter(made.values()), ()) if name != "from"]
    rows = [[run, *(str(row[name]) for name in columns)] for run, row in made.items()]
    yield from section("What the weights were made on", ["run", *columns], rows)
    for run, row in made.items():
        if "from" in row:
            yield f"{run} was not pretrained here: its weights come from {row['from']}."


def unbeaten(kind: str, figures: Mapping[str, float], floor: Mapping[str, float]) -> str:
    """A clause on the floors that a run's encoder does not beat in this evaluation; or empty."""
    floors = {"untrained": figures["untrained_top1"], "coordinates": floor[f"{kind}_top1"]}
    return tables.unbeaten(figures["top1"], **floors)


def weak(kind: str, found: Figures, runs: Iterable[str]) -> list[str]:
    """A line on the runs that do not beat the same floors, none on those that beat all."""
    by_clause: dict[str, list[str]] = {}
    for run in runs:
        clause = unbeaten(kind, found[kind][run], found["floor"][run])
        by_clause.setdefault(clause, []).append(run)
    return [f"{clause.capitalize()}: {', '.join(r)}." for clause, r in by_clause.items() if clause]


def accuracy(kind: str, figures: Mapping[str, float], floor: Mapping[str, float]) -> str:
    """A run's accuracy and its floors as a sentence."""
    found = percents({**figures, **floor}, ("top1", "untrained_top1", f"{kind}_top1"))
    line = "{}: {} %, untrained {}, coordinates {}".format(kind.capitalize(), *found)
    clause = unbeaten(kind, figures, floor)
    return f"{line}: {clause}." if clause else f"{line}."


def combined(ensemble: Ensemble) -> str:
    """The streams of an ensemble in words, with their weights unless all count alike."""
    if ensemble.weights:
        return ", ".join(f"{ensemble.weights[stream]:g} {stream}" for stream in ensemble.runs)
    return "3 streams" if len(ensemble.runs) == 3 else " and ".join(ensemble.runs)


def pictures(p: Params, dataset: str) -> list[str]:
    """The pictures of the dataset's views and of its first run's map; links to the other maps, and
    to the pages on which clips play.
    """
    runs = [name for name, run in p.runs.items() if run.dataset == dataset]
    maps = [f"[{run}: map](../data/figures/{run}-map.png)" for run in runs]
    played = [f"[{run}](../data/pages/{run}.html)" for run in runs]
    parts = [
        "### Pictures",
        f"![two views of a clip](../data/figures/{dataset}-views.png)",
        *(f"!{first}" for first in maps[:1]),
        ", ".join(maps[1:]),
        "In a browser, with clips that play: "
        + ", ".join([f"[clips of {dataset}](../data/pages/{dataset}-clips.html)", *played]),
    ]
    return [part for part in parts if part]


def section(
    title: str, head: Sequence[str], rows: Sequence[Sequence[object]], *about: str
) -> list[str]:
    """A table under its title, nothing where it has no row."""
    return [f"### {title}", *about, table(head, rows)] if rows else []


def beside(published: Mapping[str, Any], kind: str, columns: Iterable[str]) -> list[str]:
    """The published results of this kind for these columns, as a table with its sources."""
    columns = list(dict.fromkeys(columns))
    rows = [
        [method, *(figures[kind].get(c, "") for c in columns), figures["source"]]
        for method, figures in published.items()
        if any(c in figures.get(kind, {}) for c in columns)
    ]
    return ["Published:", table(["method", *columns, "read in"], rows)] if rows else []


def percents(figures: Mapping[str, float], keys: Iterable[str]) -> list[str]:
    """Figures of ours, "" for one that is not there; published ones are as in their source."""
    return [f"{figures[key]:.2f}" if key in figures else "" for key in keys]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
