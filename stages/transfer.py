"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

from experiment import artifacts, console, metrics, params, scratch
from learning.augment import Augmentations
from learning.batches import batches
from learning.clips import DeviceClips
from learning.finetune import accuracy, fine_tune
from learning.loop import deterministic
from learning.schedule import SGD
from model import distributed
from model.encoder import load_encoder
from skeletons import protocols, store


def main(transfer: str) -> str:
    p = params.read()
    described, schedule = p.transfers[transfer], p.finetune
    stream = p.runs[described.run].stream
    rule = p.datasets[described.target].protocols[described.protocol].rule
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.target))
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule, name=described.protocol)
    encoder = load_encoder(artifacts.weights(described.run))
    encoder.check_layout(parents=clips.layout.parents, bodies=clips.layout.bodies)
    checkpoint = scratch.checkpoint("transfer", transfer, minutes=p.machine.checkpoint_minutes)
    classifier = fine_tune(
        encoder,
        clips,
        batches(train, batch=schedule.batch, seed=p.seed, drop_last=False),
        stream=stream,
        augmentations=Augmentations.of(schedule.views),
        sgd=SGD(
            epochs=p.transfer.epochs,
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
            milestones=p.transfer.milestones,
        ),
        precision=schedule.precision,
        seed=p.seed,
        checkpoint=checkpoint,
        progress=console.bar(f"transfer {transfer}", "step"),
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
    said = metrics.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
