"""Features of one run: every clip of the protocol through the frozen encoder, and the untrained."""

import shutil
from pathlib import Path

import numpy as np
import torch
import zarr

from experiment import console, params
from learning.clips import DeviceClips
from learning.features import extract
from model import distributed
from model.encoder import Encoder, folded, load_encoder
from skeletons import protocols, store


def main(run: str) -> str:
    p = params.read()
    dataset, protocol, stream = (p["runs"][run][k] for k in ("dataset", "protocol", "stream"))
    stored = store.read(f"data/{dataset}.zarr")
    split = protocols.split(stored, p["datasets"][dataset]["protocols"][protocol])
    device = distributed.join(p["machine"]["device"])
    clips = DeviceClips.of(stored, device)

    encoder = load_encoder(f"data/weights/{run}.pt")
    torch.manual_seed(p["seed"])
    untrained = Encoder(**encoder.architecture).eval()

    path = Path(f"data/features/{run}.zarr")
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.create_group(path)
    for part, chosen in zip(("train", "test"), split, strict=True):
        arrays = {"clip": chosen, "label": stored.label[chosen].astype(np.int64)}
        for name, network in (("features", encoder), ("untrained", untrained)):
            arrays[name] = extract(
                folded(network).to(device).represent,
                clips,
                chosen,
                size=encoder.architecture["frames"],
                stream=stream,
                **p["embed"],
                progress=console.bar(f"embed {run}: {part}, {name}", "batch"),
            ).numpy()
        for name, array in arrays.items():
            chunks = (min(4096, len(array)), *array.shape[1:])
            group.create_array(f"{part}/{name}", data=np.ascontiguousarray(array), chunks=chunks)
    group.attrs["classes"] = clips.classes
    return f"{path}: {' and '.join(f'{len(part)} clips' for part in split)} for training and test"


if __name__ == "__main__":
    console.run(main)
