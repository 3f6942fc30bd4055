"""The all-labels ceiling of a run: the same encoder trained from scratch with all labels."""

import torch

from experiment import artifacts, checks, console, metrics, params, scratch
from learning.augment import Augmentations
from learning.batches import batches
from learning.clips import DeviceClips
from learning.finetune import accuracy, fine_tune
from learning.loop import deterministic
from learning.schedule import SGD
from model import distributed
from model.encoder import Encoder
from skeletons import protocols, store


def main(run: str) -> str:
    p = params.read()
    described, schedule = p.supervised_runs[run], p.finetune
    stream = described.stream
    rule = p.datasets[described.dataset].protocols[described.protocol].rule
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.dataset))
    checks.on_run(p, "supervised_runs", run, stored)
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule, name=described.protocol)
    torch.manual_seed(p.seed)
    layout = clips.layout
    encoder = Encoder(parents=layout.parents, bodies=layout.bodies, **dict(p.encoder))
    checkpoint = scratch.checkpoint("supervised", run, minutes=p.machine.checkpoint_minutes)
    classifier = fine_tune(
        encoder,
        clips,
        batches(train, batch=schedule.batch, seed=p.seed, drop_last=False),
        stream=stream,
        augmentations=Augmentations.of(schedule.views),
        sgd=SGD(
            epochs=p.supervised.epochs,
            lr=p.supervised.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            milestones=p.supervised.milestones,
        ),
        precision=schedule.precision,
        seed=p.seed,
        checkpoint=checkpoint,
        progress=console.bar(f"supervised {run}", "step"),
    )
    top1, top5 = accuracy(
        classifier,
        clips,
        test,
        stream=stream,
        centre_crop=p.embed.centre_crop,
        batch=p.embed.batch,
    )
    if distributed.rank() > 0:
        return ""
    said = metrics.write(f"metrics/supervised/{run}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
