"""The page of results: a section for each dataset, a table for each evaluation.

A result on synthetic archives is never set beside a published one: it says that the pipeline
learns, not how well SCD-Net recognises actions.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiment.parameters.schema import Ensemble, Params

Figures = Mapping[str, Any]  # by kind of evaluation and name: its figures
PICTURES = ("retrieval", "map")


def page(p: Params, found: Figures, published: Mapping[str, Any]) -> str:
    """The results as Markdown: a section for each dataset, a table for each evaluation."""
    parts = ["# Results", "Top-1 accuracy in % after the last epoch. `dvc repro` writes this page."]
    for dataset, source in p.sources.items():
        real = source != "synthetic"
        parts.append(f"## {dataset}: {'real' if real else 'synthetic'} recordings")
        if not real:
            parts.append(
                f"Synthetic recordings in the format of {dataset}. Nothing here can be compared "
                "with a published result; compare with the untrained encoder."
            )
        parts += runs_tables(p, found, published if real else {}, dataset)
        parts += semi_tables(p, found, published if real else {}, dataset)
        parts += supervised_table(p, found, dataset)
        parts += transfer_table(p, found, published if real else {}, dataset)
        parts += weights_table(p, found, dataset)
        parts += pictures(p, dataset)
    return "\n\n".join(parts) + "\n"


def runs_tables(p: Params, found: Figures, published: Mapping[str, Any], dataset: str) -> list[str]:
    """Linear evaluation, ensembles and retrieval of the dataset's runs."""
    runs = {name: run for name, run in p.runs.items() if run.dataset == dataset}
    ensembles = {n: e for n, e in p.ensembles.items() if set(e.runs.values()) <= set(runs)}
    if not runs:
        return []
    linear: list[list[object]] = [
        [name, run.protocol, run.stream, *(percent(figures[k]) for k in keys)]
        for name, run in runs.items()
        for figures in [found["linear"][name]]
        for keys in [("top1", "top5", "best_top1", "untrained_top1")]
    ]
    linear += [
        [name, protocol, combined(e), percent(figures["top1"]), percent(figures["top5"]), "", ""]
        for name, e in ensembles.items()
        for protocol in [next(runs[run].protocol for run in e.runs.values())]
        for figures in [found["ensemble"][name]]
    ]
    retrieval = [
        [name, run.protocol, run.stream, *(percent(figures[k]) for k in keys)]
        for name, run in runs.items()
        for figures in [found["retrieval"][name]]
        for keys in [("top1", "untrained_top1")]
    ]
    head = ["run", "protocol", "stream"]
    return [
        "### Linear evaluation",
        table([*head, "top-1", "top-5", "best epoch", "untrained"], linear),
        *beside(published, "linear", [f"{dataset}-{r.protocol}" for r in runs.values()]),
        "### Retrieval",
        table([*head, "top-1", "untrained"], retrieval),
        *beside(published, "retrieval", [f"{dataset}-{r.protocol}" for r in runs.values()]),
    ]


def combined(ensemble: Ensemble) -> str:
    """The streams of an ensemble in words: which, unless all three count alike."""
    if ensemble.weights:
        return ", ".join(f"{ensemble.weights[stream]:g} {stream}" for stream in ensemble.runs)
    return "3 streams" if len(ensemble.runs) == 3 else " and ".join(ensemble.runs)


def semi_tables(p: Params, found: Figures, published: Mapping[str, Any], dataset: str) -> list[str]:
    """Semi-supervised results of the dataset's runs, mean and standard deviation of the draws."""
    runs = [name for name, run in p.runs.items() if run.dataset == dataset]
    if not runs:
        return []
    fractions = list(found["semi"][runs[0]])
    rows = [
        [
            run,
            *(
                f"{percent(row['top1'])} ± {percent(row['std'])}"
                for row in found["semi"][run].values()
            ),
        ]
        for run in runs
    ]
    parts = ["### Semi-supervised", table(["run", *fractions], rows)]
    for protocol in p.datasets[dataset].protocols:
        parts += beside(published, f"semi-{dataset}-{protocol}", fractions)
    return parts


def supervised_table(p: Params, found: Figures, dataset: str) -> list[str]:
    """Encoders that saw all labels: what label-free training is to come near to."""
    rows = [
        [name, run.protocol, run.stream, percent(figures["top1"]), percent(figures["top5"])]
        for name, run in p.supervised_runs.items()
        if run.dataset == dataset
        for figures in [found["supervised"][name]]
    ]
    if not rows:
        return []
    return [
        "### Supervised",
        "The same encoder trained with all labels of the training clips, from scratch.",
        table(["run", "protocol", "stream", "top-1", "top-5"], rows),
    ]


def transfer_table(
    p: Params, found: Figures, published: Mapping[str, Any], dataset: str
) -> list[str]:
    """Transfer to this dataset."""
    transfers = {n: t for n, t in p.transfers.items() if t.target == dataset}
    if not transfers:
        return []
    rows = [
        [name, t.run, t.protocol, percent(found["transfer"][name]["top1"])]
        for name, t in transfers.items()
    ]
    sources = [p.runs[t.run].dataset for t in transfers.values()]
    real = [source for source in sources if p.sources[source] != "synthetic"]
    return [
        "### Transfer",
        table(["transfer", "pretrained run", "protocol", "top-1"], rows),
        *beside(published, f"transfer-to-{dataset}", real),
    ]


def weights_table(p: Params, found: Figures, dataset: str) -> list[str]:
    """What the encoders of the dataset's runs were pretrained on."""
    made = {n: found["weights"][n] for n, run in p.runs.items() if run.dataset == dataset}
    if not made:
        return []
    columns = next(iter(made.values()))
    rows = [[run, *row.values()] for run, row in made.items()]
    return ["### What the weights were made on", table(["run", *columns], rows)]


def pictures(p: Params, dataset: str) -> list[str]:
    """The pictures of the dataset, its views and its first run; links to those of the others, and
    to the pages on which clips play.
    """
    shown, *others = [name for name, run in p.runs.items() if run.dataset == dataset] or [""]
    parts = [
        "### Pictures",
        f"![clips of {dataset}](../data/figures/{dataset}-clips.png)",
        f"![two views of a clip](../data/figures/{dataset}-views.png)",
    ]
    if shown:
        parts += [f"![{shown}: {kind}](../data/figures/{shown}-{kind}.png)" for kind in PICTURES]
    for run in others:
        links = (f"[{kind}](../data/figures/{run}-{kind}.png)" for kind in PICTURES)
        parts.append(f"{run}: {', '.join(links)}")
    played = {f"clips of {dataset}": f"{dataset}-clips"} | {r: r for r in (shown, *others) if r}
    links = (f"[{title}](../data/pages/{name}.html)" for title, name in played.items())
    return [*parts, f"In a browser, with clips that play: {', '.join(links)}"]


def beside(published: Mapping[str, Any], kind: str, columns: Iterable[str]) -> list[str]:
    """The published results of this kind for these columns, as a table with its sources."""
    columns = list(dict.fromkeys(columns))
    rows = [
        [method, *(figures[kind].get(c, "") for c in columns), figures["source"]]
        for method, figures in published.items()
        if any(c in figures.get(kind, {}) for c in columns)
    ]
    return ["Published:", table(["method", *columns, "read in"], rows)] if rows else []


def percent(value: float) -> str:
    """An accuracy of ours; published ones have as many digits as their source."""
    return f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
