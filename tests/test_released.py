"""Checkpoints of the released code: an encoder out of one, or one line that says what is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINECT_V1, KINECT_V2

from errors import UserError
from model.exchange.released import PREFIX, load_released
from model.network.encoder import Encoder, save_encoder

GOLDEN = Path(__file__).parent / "golden" / "encoder_tiny.npz"
TINY = {"parents": KINECT_V2.parents, "frames": 16, "width": 8, "dim": 16, "heads": 4}
Golden = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture
def state(golden: Golden) -> Golden:
    """The `state_dict` of a released checkpoint."""
    names = [name for name in golden if name.startswith("w/")]
    state = {f"encoder_q.{name.removeprefix('w/')}": golden[name].clone() for name in names}
    return {**state, "t_queue": torch.randn(8, 16)}


def checkpoint(path: Path, state: Any) -> Path:
    torch.save({"epoch": 451, "state_dict": state, "optimizer": {}}, path)
    return path


def test_released_checkpoint_loads(golden: Golden, state: Golden, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint.pth.tar", state)
    encoder = load_released(path, parents=KINECT_V2.parents, heads=4)
    assert encoder.architecture == {**TINY, "bodies": 2, "layers": 1, "dropout": 0.1}
    with torch.no_grad():
        v_t, v_s = encoder(golden["x"])
    torch.testing.assert_close(v_t, golden["vt"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v_s, golden["vs"], atol=1e-5, rtol=1e-5)


def refusal(path: Path, parents: tuple[int, ...] = KINECT_V2.parents) -> str:
    """The message on a file, less its path."""
    with pytest.raises(UserError) as refused:
        load_released(path, parents=parents, heads=4)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def test_a_file_that_is_no_released_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    for state in ({"encoder.weight": torch.zeros(2)}, {PREFIX + "x": 3}, 3):
        assert refusal(checkpoint(path, state)).startswith("not a released SCD-Net checkpoint: no")
    torch.save({"model": {}}, path)
    assert refusal(path).startswith("not a released SCD-Net checkpoint: no `state_dict`")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refusal(path).startswith("a Git LFS pointer")
    save_encoder(Encoder(**TINY), path)
    assert "model.network.encoder.load_encoder" in refusal(path)


def test_weights_that_are_no_scd_net_are_refused_in_one_line(state: Golden, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    name = PREFIX + "gcn_t.l1.gcn1.alpha"
    less = {key: array for key, array in state.items() if key != name}
    assert refusal(checkpoint(path, less)) == f"lacks the weight {name}"
    name = PREFIX + "gcn_s.l2.gcn1.convs.0.conv3.weight"
    other = checkpoint(path, {**state, name: torch.zeros(3)})
    assert refusal(other).startswith("its weights have other shapes than SCD-Net's: ")
    name = PREFIX + "channel_s.0.bias"
    other = checkpoint(path, {**state, name: torch.zeros(3)})
    assert "spatial.embed.0.bias is (3,), not (16,)" in refusal(other)
    other = checkpoint(path, {**state, name: torch.full((16,), torch.nan)})
    assert refusal(other).startswith("spatial.embed.0.bias has values that are not finite")


def test_another_skeleton_than_the_checkpoints_is_refused_in_one_line(
    state: Golden, tmp_path: Path
) -> None:
    path = checkpoint(tmp_path / "checkpoint.pth.tar", state)
    assert refusal(path, KINECT_V1.parents) == "an encoder of 25 joints; `parents` has 20"
