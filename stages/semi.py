"""Semi-supervised evaluation of one run: fine-tune everything on a fraction of the labels."""

import statistics

from experiment import artifacts
from experiment.artifacts import tables
from experiment.fine_tuning.accuracy import fine_tuned_accuracy
from experiment.parameters import params
from experiment.running import scratch
from experiment.workflow import console
from learning.training.device_clips import DeviceClips
from learning.training.loop import deterministic
from machine.devices import distributed
from model.network.encoder import load_encoder
from skeletons.clips import protocols, store


def main(run: str) -> str:
    p = params.read()
    settings, seed, described = p.semi, p.seed, p.runs[run]
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.dataset))
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule, name=described.protocol)
    encoder = load_encoder(artifacts.weights(run))
    encoder.check_layout(parents=clips.layout.parents, bodies=clips.layout.bodies)
    finished = scratch.checkpoint("semi", run, minutes=p.machine.checkpoint_minutes)
    done: dict[str, float] = finished.load() or {}

    def top1_of(fraction: float, draw: int) -> float:
        """The accuracy after fine-tuning on one draw of the labels."""
        part = f"{fraction}-{draw}"
        if part in done:
            return done[part]
        positions = protocols.draw_clips(
            stored.label[train], fraction, seed=seed, draw=draw, balanced=settings.balanced
        )
        checkpoint = finished.part(part)
        top1, _ = fine_tuned_accuracy(
            p,
            encoder,
            clips,
            train[positions],
            test,
            stream=described.stream,
            epochs=settings.epochs,
            lr=p.finetune.lr,
            milestones=settings.milestones,
            seed=seed + draw,
            checkpoint=checkpoint,
            title=f"semi {run}: {fraction:.0%}, draw {draw + 1}",
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
