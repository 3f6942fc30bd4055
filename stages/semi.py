"""Semi-supervised evaluation of one run: fine-tune everything on a fraction of the labels."""

import statistics

from experiment import console, metrics, params, scratch
from learning.task import Task
from model import distributed
from model.encoder import load_encoder
from skeletons.protocols import draw_clips


def main(run: str) -> str:
    p = params.read()
    settings, schedule = p.semi.model_dump(), p.finetune.model_dump()
    chosen_run = p.runs[run]
    dataset, protocol, stream = chosen_run.dataset, chosen_run.protocol, chosen_run.stream
    rule = p.datasets[dataset].protocols[protocol].rule
    task = Task(dataset, rule, p.machine.device)
    weights = f"data/weights/{run}.pt"
    encoder = load_encoder(weights)

    checkpoint = scratch.checkpoints("semi", run, minutes=p.machine.checkpoint_minutes)

    def accuracy(fraction: float, draw: int) -> float:
        chosen = task.train[
            draw_clips(
                task.clips.label[task.train],
                fraction,
                seed=p.seed,
                draw=draw,
                balanced=settings["balanced"],
            )
        ]
        unfinished = checkpoint(f"-{fraction}-{draw}")
        top1, _ = task.accuracy(
            encoder,
            chosen,
            stream=stream,
            seed=p.seed + draw,
            schedule={
                **schedule,
                "epochs": settings["epochs"],
                "milestones": settings["milestones"],
            },
            embed=p.embed.model_dump(),
            checkpoint=unfinished,
            progress=console.bar(f"semi {run}: {fraction:.0%}, draw {draw + 1}", "step"),
        )
        found[f"{fraction}-{draw}"] = top1
        finished.save(found)
        unfinished.remove()
        return top1

    finished = checkpoint()
    found: dict[str, float] = finished.load() or {}
    rows = []
    for fraction in settings["fractions"]:
        draws = [
            found[part] if (part := f"{fraction}-{draw}") in found else accuracy(fraction, draw)
            for draw in range(settings["draws"])
        ]
        spread = statistics.stdev(draws) if len(draws) > 1 else 0.0
        rows.append({"fraction": fraction, "top1": statistics.mean(draws), "std": spread})
    if distributed.rank() > 0:
        return ""
    path = f"metrics/semi/{run}.json"
    metrics.write_rows(path, rows)
    finished.remove()
    said = ", ".join(f"{100 * row['fraction']:g}% of the labels: {row['top1']:.2f}" for row in rows)
    return f"{path}: {said}"


if __name__ == "__main__":
    console.run(main)
