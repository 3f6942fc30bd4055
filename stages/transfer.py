"""Transfer of one run: fine-tune everything on all labels of another dataset's protocol."""

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


def main(transfer: str) -> str:
    p = params.read()
    described = p.transfers[transfer]
    rule = p.datasets[described.target].protocols[described.protocol].rule
    device = distributed.join(p.machine.device)
    deterministic(device)
    stored = store.read(artifacts.store(described.target))
    clips = DeviceClips.of(stored, device)
    train, test = protocols.split(stored, rule, name=described.protocol)
    encoder = load_encoder(artifacts.weights(described.run))
    encoder.check_layout(parents=clips.layout.parents, bodies=clips.layout.bodies)
    checkpoint = scratch.checkpoint("transfer", transfer, minutes=p.machine.checkpoint_minutes)
    top1, top5 = fine_tuned_accuracy(
        p,
        encoder,
        clips,
        train,
        test,
        stream=p.runs[described.run].stream,
        epochs=p.transfer.epochs,
        lr=p.finetune.lr,
        milestones=p.transfer.milestones,
        seed=p.seed,
        checkpoint=checkpoint,
        title=f"transfer {transfer}",
    )
    if distributed.rank() > 0:
        return ""
    said = tables.write(f"metrics/transfer/{transfer}.json", top1=top1, top5=top5)
    checkpoint.remove()
    return said


if __name__ == "__main__":
    console.run(main)
