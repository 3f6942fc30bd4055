"""Features of a frozen network: of which view, in which precision, and finite."""

from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINECT_V2

from errors import UserError
from learning.probing.features import Viewing, evaluation_view, extract
from learning.training.device_clips import DeviceClips
from model.network.encoder import Encoder
from model.network.folding import folded

CLIPS = DeviceClips(
    frames=torch.randn(60, 2, KINECT_V2.joints, 3, generator=torch.Generator().manual_seed(0)),
    offsets=torch.tensor([0, 10, 40, 60]),
    labels=torch.zeros(3, dtype=torch.int64),
    classes=1,
    layout=KINECT_V2,
    device=torch.device("cpu"),
)
VIEW: dict[str, Any] = {"size": 8, "stream": "bone", "centre_crop": 0.9}


def test_features_are_of_the_evaluation_view_in_order() -> None:
    indices = np.array([2, 0, 1])
    found = extract(lambda x: x.flatten(1), CLIPS, indices, Viewing(batch=2, **VIEW))
    view = evaluation_view(CLIPS, torch.from_numpy(indices), **VIEW)
    assert torch.equal(found, view.flatten(1))


def test_bf16_features_are_close_and_float32() -> None:
    torch.manual_seed(0)
    encoder = folded(Encoder(parents=KINECT_V2.parents, frames=8, width=8, dim=32, heads=2).eval())
    full, low = (
        extract(
            encoder.represent, CLIPS, np.arange(3), Viewing(**VIEW, batch=2, precision=precision)
        )
        for precision in ("fp32", "bf16")
    )
    assert low.dtype == torch.float32
    assert not torch.equal(full, low)
    assert torch.nn.functional.cosine_similarity(full, low).min() > 0.999


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused_with_the_first_clip(bad: float) -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        features = x.flatten(1).clone()
        features[x[:, 0, 0, 3, 0] == view[0, 0, 0, 3, 0], 5] = bad
        return features

    view = evaluation_view(CLIPS, torch.tensor([1]), **VIEW)
    with pytest.raises(UserError, match=r"of 1 of 3 clips are not finite, first of clip 1 "):
        extract(network, CLIPS, np.array([2, 0, 1]), Viewing(batch=2, **VIEW))
