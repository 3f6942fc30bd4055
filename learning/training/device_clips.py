"""The clips of a dataset where batches of views are made from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skeletons.clips.layout import Layout
from skeletons.clips.store import Clips


@dataclass(frozen=True)
class DeviceClips:
    """All clips of a dataset as tensors.

    Args:
        frames: (F, M, V, 3) float32 in metres, the frames of all clips one after another.
        offsets: (N + 1,) int64, clip i is `frames[offsets[i] : offsets[i + 1]]`; where frames are.
        labels: (N,) int64, on `device`.
        classes: how many labels there are.
        layout: of the joints.
        device: where networks are; `frames` may stay in the host's memory.
        paired: (N,) in the host's memory, which clips have a second body; None: not known.
    """

    frames: Tensor
    offsets: Tensor
    labels: Tensor
    classes: int
    layout: Layout
    device: torch.device
    paired: Tensor | None = None

    @classmethod
    def of(cls, clips: Clips, device: torch.device) -> "DeviceClips":
        """The clips of a store: frames go to the device if they take less than half of what is free
        there, else they stay in the host's memory, where views are then made."""
        frames = torch.from_numpy(clips.frames)
        if device.type == "cuda" and clips.frames.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            frames = frames.pin_memory()
        else:
            frames = frames.to(device)
        return cls(
            frames=frames,
            offsets=torch.from_numpy(clips.offsets).to(frames.device),
            labels=torch.from_numpy(clips.label.astype(np.int64)).to(device),
            classes=clips.classes,
            layout=clips.layout,
            device=device,
            paired=_paired(clips) if clips.layout.bodies == 2 else None,
        )

    @classmethod
    def unlabelled(cls, clips: Sequence[NDArray[np.float32]], layout: Layout) -> "DeviceClips":
        """Prepared clips (T, M, V, 3), on the CPU; their labels are unknown, and 0."""
        lengths = [0, *(len(clip) for clip in clips)]
        return cls(
            frames=torch.from_numpy(np.concatenate(clips)),
            offsets=torch.tensor(lengths).cumsum(0),
            labels=torch.zeros(len(clips), dtype=torch.int64),
            classes=1,
            layout=layout,
            device=torch.device("cpu"),
        )

    def extent(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """First row and number of rows (each (B,)) in `frames` of the clips `indices` (B,)."""
        first = self.offsets[indices]
        return first, self.offsets[indices + 1] - first


@dataclass(frozen=True)
class Task:
    """Clips to learn from and to be tested on: `train` and `test` are indices of `clips`, seen as
    `stream`.
    """

    clips: DeviceClips
    train: np.ndarray
    test: np.ndarray
    stream: str


def _paired(clips: Clips) -> Tensor:
    """True for the clips (N,) that have a second body in any frame."""
    second = clips.frames[:, 1].any(axis=(1, 2))
    return torch.from_numpy(np.logical_or.reduceat(second, clips.offsets[:-1]))
