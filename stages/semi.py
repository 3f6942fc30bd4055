"""Semi-supervised evaluation of one run: fine-tune everything on a fraction of the labels."""

import statistics
from dataclasses import replace

from experiment.artifacts import tables
from experiment.parameters import params
from experiment.running import inputs, scratch
from experiment.workflow import console
from learning.finetuning.finetune import fine_tuned_accuracy
from machine.devices import distributed
from machine.devices.reproducibility import deterministic
from skeletons.clips import protocols


def main(run: str) -> str:
    p = params.read()
    settings, seed = p.semi, p.seed
    task = inputs.load(p, p.runs[run])
    deterministic(task.clips.device)
    encoder = inputs.pretrained(p, run, task.clips.layout)
    labels = task.clips.labels.cpu().numpy()[task.train]
    finished = scratch.checkpoint("semi", run, minutes=p.machine.checkpoint_minutes)
    done: dict[str, float] = finished.load() or {}

    def top1_of(fraction: float, draw: int) -> float:
        """The accuracy after fine-tuning on one draw of the labels."""
        part = f"{fraction}-{draw}"
        if part in done:
            return done[part]
        positions = protocols.draw_clips(
            labels, fraction, seed=seed, draw=draw, balanced=settings.balanced
        )
        checkpoint = finished.part(part)
        top1, _ = fine_tuned_accuracy(
            encoder,
            replace(task, train=task.train[positions]),
            inputs.fine_tuning(
                p,
                epochs=settings.epochs,
                lr=p.finetune.lr,
                milestones=settings.milestones,
                seed=seed + draw,
            ),
            inputs.viewing(p, encoder, task),
            checkpoint=checkpoint,
            progress=console.bar(f"semi {run}: {fraction:.0%}, draw {draw + 1}", "step"),
        )
        done[part] = top1
        finished.save(done)
        checkpoint.remove()
        return top1

    rows = []
    for fraction in settings.fractions:
        draws = [top1_of(fraction, draw) for draw in range(settings.draws)]
        spread = statistics.stdev(draws) if len(draws) > 1 else 0.0
        rows.append({"fraction": fraction, "top1": statistics.mean(draws), "std": spread})
    if distributed.rank() > 0:
        return ""
    path = f"metrics/semi/{run}.json"
    tables.write_rows(path, rows)
    finished.remove()
    said = ", ".join(f"{100 * row['fraction']:g}% of the labels: {row['top1']:.2f}" for row in rows)
    return f"{path}: {said}"


if __name__ == "__main__":
    console.run(main)
