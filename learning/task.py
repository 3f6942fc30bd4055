"""Training with labels, as `semi`, `transfer` and `supervised` share it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from learning.batches import batches, resident
from learning.checkpoint import Checkpoint
from learning.finetune import fine_tune
from learning.loop import deterministic
from learning.probes import topk_accuracy
from learning.views import Crop
from model import distributed
from model.encoder import Encoder
from skeletons import protocols, store


class Task:
    """The labelled clips of a dataset's protocol, on the device that trains.

    Args:
        dataset: whose store is under `data/`.
        rule: of the protocol; `train` and `test` are its clips.
        device: cpu, cuda or auto.
    """

    def __init__(self, dataset: str, rule: Mapping[str, Any], device: str) -> None:
        self.clips = store.read(f"data/{dataset}.zarr")
        self.train, self.test = protocols.split(self.clips, rule)
        place = distributed.join(device)
        deterministic(place)
        self.frames = resident(self.clips.frames, place)
        self.offsets = torch.from_numpy(self.clips.offsets).to(self.frames.device)
        self.labels = torch.from_numpy(self.clips.label.astype(np.int64)).to(place)

    def accuracy(
        self,
        encoder: Encoder,
        chosen: np.ndarray,
        *,
        stream: str,
        seed: int,
        schedule: Mapping[str, Any],
        embed: Mapping[str, Any],
        checkpoint: Checkpoint,
        progress: Any,
    ) -> tuple[float, ...]:
        """Top-1 and top-5 accuracy (%) on the test clips, after everything was trained on `chosen`.

        `schedule` has the parameters of `finetune` with `epochs` and `milestones`, `embed` those of
        the evaluation view; `progress` wraps the steps.
        """
        scores = fine_tune(
            encoder,
            self.frames,
            self.offsets,
            self.labels,
            batches(
                chosen,
                batch=schedule["batch"],
                seed=seed,
                drop_last=False,
                rank=distributed.rank(),
                ranks=distributed.ranks(),
            ),
            torch.from_numpy(self.test),
            classes=self.clips.classes,
            kind=stream,
            crop=Crop(**schedule["crop"]),
            seed=seed,
            epochs=schedule["epochs"],
            milestones=schedule["milestones"],
            lr=schedule["lr"],
            momentum=schedule["momentum"],
            weight_decay=schedule["weight_decay"],
            precision=schedule["precision"],
            checkpoint=checkpoint,
            centre_crop=embed["centre_crop"],
            batch=embed["batch"],
            progress=progress,
        )
        labels = torch.from_numpy(self.clips.label[self.test]).long()
        return topk_accuracy(scores, labels, (1, 5))
