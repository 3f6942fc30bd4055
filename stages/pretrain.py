"""Contrastive pretraining of one run: the protocol's training clips, without their labels."""

from pathlib import Path

import torch
from torch import Tensor

from model.contrast import SCDNet
from model.encoder import Encoder, Projector, save_encoder
from model.training import train
from model.views import Crop, Flip, Rotate, Shear, SpatialMask, TemporalMask, training_view
from skeletons import protocols, store
from skeletons.loader import batches
from stages import console, params, results


def main(run: str) -> str:
    p = params.read()
    settings, views, seed = p["pretrain"], p["views"], p["seed"]
    dataset, protocol, stream = (p["runs"][run][k] for k in ("dataset", "protocol", "stream"))
    clips = store.read(f"data/{dataset}.zarr")
    chosen, _ = protocols.split(clips, p["datasets"][dataset]["protocols"][protocol])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frames, offsets = (torch.from_numpy(a).to(device) for a in (clips.frames, clips.offsets))

    torch.manual_seed(seed)
    encoder = Encoder(parents=clips.layout.parents, bodies=frames.shape[1], **p["encoder"])
    network = SCDNet(
        Projector(encoder, projection=settings["projection"]),
        queue=settings["queue"],
        momentum=settings["momentum"],
        temperature=settings["temperature"],
        terms=settings["terms"],
    ).to(device)

    def view(clips_of_batch: Tensor, epoch: int, number: int) -> Tensor:
        return training_view(
            frames,
            offsets,
            clips_of_batch,
            size=p["encoder"]["frames"],
            kind=stream,
            parents=clips.layout.parents,
            swap=clips.layout.swap,
            crop=Crop(**views["crop"]),
            rotate=Rotate(**views["rotate"]),
            flip=Flip(**views["flip"]),
            shear=Shear(**views["shear"]),
            spatial_mask=SpatialMask(**views["spatial_mask"]),
            temporal_mask=TemporalMask(**views["temporal_mask"]),
            seed=seed,
            epoch=epoch,
            view=number,
        ).x

    def step(clips_of_batch: Tensor, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        clips_of_batch = clips_of_batch.to(device)
        return network(view(clips_of_batch, epoch, 0), view(clips_of_batch, epoch, 1))

    curve = list(
        train(
            step,
            network.query.parameters(),
            batches(chosen, batch=settings["batch"], seed=seed, drop_last=True),
            epochs=settings["epochs"],
            lr=settings["lr"],
            milestones=settings["milestones"],
            momentum=settings["sgd_momentum"],
            weight_decay=settings["weight_decay"],
            progress=console.bar(f"pretrain {run}", "epoch"),
        )
    )
    weights = Path(f"data/weights/{run}.pt")
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, weights, dataset=dataset, protocol=protocol, stream=stream)
    results.write_rows(f"metrics/pretrain/{run}.json", curve)
    return f"{weights}: loss {curve[-1]['loss']:.3f} after {len(curve)} epochs"


if __name__ == "__main__":
    console.run(main)
