"""The encoder against the released code's numbers, and what a weights file promises."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model import ctrgcn
from model.encoder import (
    Encoder,
    Linear,
    Projector,
    folded,
    from_released,
    load_encoder,
    load_released,
    save_encoder,
)
from skeletons.sensors import KINECT_V2

GOLDEN = Path(__file__).parent / "golden" / "encoder_tiny.npz"
TINY = {"parents": KINECT_V2.parents, "frames": 16, "width": 8, "dim": 16, "heads": 4}


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def weights(golden: dict[str, torch.Tensor], prefix: str = "w/") -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def test_encoder_equals_released(golden: dict[str, torch.Tensor]) -> None:
    net = Projector(Encoder(**TINY), projection=8).eval()
    net.load_state_dict(from_released(weights(golden)))
    with torch.no_grad():
        ours = dict(zip(("vt", "vs"), net.encoder(golden["x"]), strict=True))
        ours |= dict(zip(("zt", "zs", "zi"), net(golden["x"]), strict=True))
    for name, array in ours.items():
        torch.testing.assert_close(array, golden[name], atol=1e-5, rtol=1e-5)


def test_a_linear_layer_of_tokens_is_a_matrix_product() -> None:
    torch.manual_seed(0)
    layer, x = Linear(6, 10), torch.randn(3, 4, 6, requires_grad=True)
    plain, again = x @ layer.weight.T + layer.bias, layer(x)
    assert again.is_contiguous()
    torch.testing.assert_close(again, plain)
    weights = torch.randn(3, 4, 10)
    theirs, ours = (
        torch.autograd.grad((y * weights).sum(), [x, layer.weight, layer.bias])
        for y in (plain, again)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("bias", [True, False])
def test_a_pointwise_convolution_is_the_same_product_in_training_and_after(bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = ctrgcn.Pointwise(6, 10, bias=bias), torch.randn(3, 6, 5, 4)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    plain = torch.einsum("oi,nivt->novt", layer.weight[..., 0], x)
    plain = plain if layer.bias is None else plain + layer.bias[:, None, None]
    for training in (True, False):
        y = layer.train(training)(x)
        assert y.is_contiguous()
        torch.testing.assert_close(y, plain)


def test_released_checkpoint_loads(golden: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    state = {f"encoder_q.{name}": array for name, array in weights(golden).items()}
    state["t_queue"] = torch.randn(8, 16)
    torch.save({"epoch": 451, "state_dict": state, "optimizer": {}}, path)
    encoder = load_released(path, parents=KINECT_V2.parents, heads=4)
    assert encoder.architecture == {**TINY, "bodies": 2, "layers": 1, "dropout": 0.1}
    with torch.no_grad():
        v_t, v_s = encoder(golden["x"])
    torch.testing.assert_close(v_t, golden["vt"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v_s, golden["vs"], atol=1e-5, rtol=1e-5)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"other\.pt: not a weights file"):
        load_encoder(path)
    with pytest.raises(ValueError, match=r"other\.pt: not a released SCD-Net checkpoint"):
        load_released(path, parents=KINECT_V2.parents)


def test_weights_file_rebuilds_the_encoder(tmp_path: Path) -> None:
    encoder = Encoder(**TINY).eval()
    save_encoder(encoder, tmp_path / "run.pt", stream="joint")
    loaded = load_encoder(tmp_path / "run.pt")
    x = torch.randn(2, 3, 16, KINECT_V2.joints, 2)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded.represent(x), encoder.represent(x))


def test_saving_again_leaves_a_hard_link_to_the_old_file_alone(tmp_path: Path) -> None:
    cached, path = tmp_path / "cached", tmp_path / "run.pt"
    save_encoder(Encoder(**TINY), path)
    cached.hardlink_to(path)
    before = cached.read_bytes()
    save_encoder(Encoder(**TINY), path)
    assert cached.read_bytes() == before != path.read_bytes()
    assert set(tmp_path.iterdir()) == {cached, path}


@pytest.mark.parametrize("bodies", [1, 3, 10])
def test_a_few_bodies_at_a_time_give_the_same_features(
    bodies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(**TINY).eval()
    x = torch.randn(5, 3, 16, KINECT_V2.joints, 2)
    with torch.no_grad():
        whole = encoder.represent(x)
        monkeypatch.setattr(ctrgcn, "CACHED", bodies * 4 * TINY["width"] * KINECT_V2.joints * 16)
        seen = []
        hook = encoder.temporal.features.blocks[0].register_forward_pre_hook(
            lambda _, arguments: seen.append(len(arguments[0]))
        )
        parts = encoder.represent(x)
        hook.remove()
    assert max(seen) == bodies
    assert sum(seen) == 10
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("missing", ["second bodies", "one body of some clips", "nothing"])
def test_absent_bodies_are_computed_once_and_count_as_many(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, gradients and statistics equal those of computing every body."""
    torch.manual_seed(0)
    encoder = Encoder(**TINY | {"dropout": 0.0}).double()
    for name, parameter in encoder.named_parameters():
        if name.endswith("alpha"):
            nn.init.ones_(parameter)
    x = torch.randn(6, 3, 16, KINECT_V2.joints, 2).double()
    if missing == "second bodies":
        x[1:, ..., 1] = 0
    elif missing == "one body of some clips":
        x[2:5, ..., 1] = x[4:, ..., 0] = 0
    computed, found = [], []
    for compiling in (False, True):  # compiled code computes every body
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda on=compiling: on)
        network = copy.deepcopy(encoder)
        network.temporal.features.blocks[0].register_forward_pre_hook(
            lambda _, arguments: computed.append(len(arguments[0]))
        )
        features = network.represent(x)
        (features * torch.linspace(-1, 1, features.shape[1])).square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        frozen = network.eval().represent(x)
        found.append((features, frozen, gradients, dict(network.named_buffers())))
    many, each = found
    torch.testing.assert_close(many, each, rtol=1e-9, atol=1e-7)
    assert (
        computed
        == {
            "second bodies": [2 + 7] * 2 + [12] * 2,
            "one body of some clips": [2 + 7] * 2 + [12] * 2,
            "nothing": [12] * 4,
        }[missing]
    )


def test_a_feature_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    encoder = Encoder(**TINY).eval()
    x = torch.randn(5, 3, 16, KINECT_V2.joints, 2)
    with torch.no_grad():
        together = encoder.represent(x)
        alone = torch.cat([encoder.represent(clip[None]) for clip in x])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_folding_norms_changes_no_feature(golden: dict[str, torch.Tensor]) -> None:
    net = Projector(Encoder(**TINY), projection=8).eval()
    net.load_state_dict(from_released(weights(golden)))
    before = {name: array.clone() for name, array in net.state_dict().items()}
    with torch.inference_mode():
        v_t, v_s = folded(net.encoder)(golden["x"])
    torch.testing.assert_close(v_t, golden["vt"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(v_s, golden["vs"], atol=1e-5, rtol=1e-5)
    for name, array in net.state_dict().items():
        assert torch.equal(array, before[name]), name


def test_paper_size() -> None:
    """74.7 M parameters, the classifier of 60 actions included, and a 4096-d representation."""
    with torch.device("meta"):
        encoder = Encoder(parents=KINECT_V2.parents)
    size = 2 * encoder.architecture["dim"]
    count = sum(p.numel() for p in encoder.parameters()) + (size + 1) * 60
    assert size == 4096
    assert round(count / 1e6, 1) == 74.7


@pytest.mark.parametrize(("size", "message"), [({"dim": 18}, "heads 4"), ({"width": 6}, "of 4")])
def test_sizes_that_do_not_divide_are_refused(size: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(**{**TINY, **size})


def test_start_of_training() -> None:
    """Topologies start as the skeleton's own, and matrices Xavier-uniform."""
    encoder = Encoder(**TINY)
    graph = encoder.temporal.features.blocks[0].graph
    assert graph.alpha.item() == 0
    same, inward, outward = graph.adjacency.detach()
    for joint, parent in KINECT_V2.bones:
        assert inward[parent, joint] == 1
        children = sum(other == parent for _, other in KINECT_V2.bones)
        assert outward[joint, parent] == pytest.approx(1 / children)
    assert torch.equal(same, torch.eye(KINECT_V2.joints))
    matrix = encoder.temporal.embed[0].weight
    assert matrix.abs().max() <= (6 / sum(matrix.shape)) ** 0.5


def test_the_gradient_of_one_clip_does_not_depend_on_its_layout_in_memory() -> None:
    """PyTorch gives wrong ones for some layouts of a single row."""
    torch.manual_seed(0)
    encoder = Encoder(parents=(0, 0, 1, 1), frames=8, width=8, dim=16, heads=2, dropout=0.0)
    encoder.double().train()
    clip = torch.randn(1, 8, 2, 4, 3).double()
    gradients = []
    for x in (clip.permute(0, 4, 1, 3, 2), clip.permute(0, 4, 1, 3, 2).contiguous()):
        encoder.zero_grad()
        encoder.represent(x).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)
