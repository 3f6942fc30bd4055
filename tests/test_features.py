"""Features of a frozen network: which view it sees, in which precision."""

import torch

from learning.features import extract
from learning.views import evaluation_view, stream
from model.encoder import Encoder
from model.folding import folded
from skeletons.sensors import KINECT_V2

FRAMES = torch.randn(60, 2, KINECT_V2.joints, 3, generator=torch.Generator().manual_seed(0))
OFFSETS = torch.tensor([0, 10, 40, 60])
SETTINGS = {"size": 8, "kind": "bone", "parents": KINECT_V2.parents, "centre_crop": 0.9, "batch": 2}


def test_features_are_of_the_evaluation_view_in_order() -> None:
    clips = torch.tensor([2, 0, 1])
    found = extract(lambda x: x.flatten(1), FRAMES, OFFSETS, clips, **SETTINGS)
    view = evaluation_view(FRAMES, OFFSETS, clips, 8, 0.9)
    assert torch.equal(found, stream(view, "bone", KINECT_V2.parents).flatten(1))


def test_bf16_features_are_close_and_float32() -> None:
    torch.manual_seed(0)
    encoder = folded(Encoder(parents=KINECT_V2.parents, frames=8, width=8, dim=32, heads=2).eval())
    clips = torch.arange(3)
    full, low = (
        extract(encoder.represent, FRAMES, OFFSETS, clips, precision=precision, **SETTINGS)
        for precision in ("fp32", "bf16")
    )
    assert low.dtype == torch.float32
    assert not torch.equal(full, low)
    assert torch.nn.functional.cosine_similarity(full, low).min() > 0.999
