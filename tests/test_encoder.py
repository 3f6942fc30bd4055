"""The encoder against the released code's numbers, and the input that it takes."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import KINECT_V1, KINECT_V2
from torch import nn

from errors import UserError
from model.exchange.released import from_released
from model.network import backbone, products
from model.network.absent_bodies import plan
from model.network.encoder import Encoder, Projector
from model.network.folding import folded
from model.network.graph_convolution import GraphConvolution
from model.network.products import Pointwise, TokenLinear

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
    layer, x = TokenLinear(6, 10), torch.randn(3, 4, 6, requires_grad=True)
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
    layer, x = Pointwise(6, 10, bias=bias), torch.randn(3, 6, 5, 4)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    plain = torch.einsum("oi,nivt->novt", layer.weight[..., 0], x)
    plain = plain if layer.bias is None else plain + layer.bias[:, None, None]
    for training in (True, False):
        y = layer.train(training)(x)
        assert y.is_contiguous()
        torch.testing.assert_close(y, plain)


@pytest.mark.parametrize("bodies", [1, 3, 10])
def test_a_few_bodies_at_a_time_give_the_same_features(
    bodies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(**TINY).eval()
    x = torch.randn(5, 3, 16, KINECT_V2.joints, 2)
    with torch.no_grad():
        whole = encoder.represent(x)
        monkeypatch.setattr(backbone, "CACHED", bodies * 4 * TINY["width"] * KINECT_V2.joints * 16)
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


@pytest.mark.parametrize("channels", [3, 16])
def test_unused_columns_of_a_topology_change_no_result(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU has them: 25 joints are computed in rows of 32."""
    torch.manual_seed(0)
    layer = GraphConvolution(channels, 8, KINECT_V2.parents).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(3, channels, KINECT_V2.joints, 6).double()
    weights = torch.randn(3, 8, KINECT_V2.joints, 6).double()
    found = []
    for aligned in (False, True):
        monkeypatch.setattr(products, "wants_aligned_rows", lambda _, aligned=aligned: aligned)
        inputs = x.clone().requires_grad_()
        y = layer(inputs)
        found.append((y, torch.autograd.grad((y * weights).sum(), [inputs, *layer.parameters()])))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("compiling", [False, True])
@pytest.mark.parametrize(("pairs", "computed"), [(0, 10), (1, 10), (2, 12), (5, 14), (6, 16)])
def test_a_plan_of_the_bodies_changes_no_result(
    pairs: int, computed: int, compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, gradients and statistics equal those without; the numbers computed are few."""
    torch.manual_seed(0)
    encoder = Encoder(**TINY | {"dropout": 0.0}).double()
    for name, parameter in encoder.named_parameters():
        if name.endswith("alpha"):
            nn.init.ones_(parameter)
    paired = torch.zeros(8, dtype=torch.bool)
    paired[torch.randperm(8)[:pairs]] = True
    x = torch.randn(8, 3, 16, KINECT_V2.joints, 2).double()
    x[~paired, ..., 1] = 0
    planned = plan(paired, torch.device("cpu"))
    assert (planned.computed if planned else 16) == computed
    found = []
    for bodies in (None, planned):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
        network = copy.deepcopy(encoder)
        features = torch.cat(network(x, bodies), dim=1)
        (features * torch.linspace(-1, 1, features.shape[1])).square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        found.append((features, gradients, dict(network.named_buffers())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("pairs", [0, 1, 6], ids="{} clips with two bodies".format)
@pytest.mark.parametrize("compiling", [False, True])
def test_rounding_does_not_decide_the_first_gradient(
    pairs: int, compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the clips changes the order of sums, by rounding alone.

    A sum of n terms rounds by at most n * eps of its largest partial sum. A wrong side of a ReLU's
    kink changes gradients by a tenth of the largest.

    Not compared are gradients of topologies where one clip has a second body. The absent ones stand
    still then without being zero, and rounding decides which of their equal frames the max-pool
    takes. Weights meet equal activations in each, but a topology's gradient those of all joints,
    which the padding in time makes differ at a clip's ends (times 1e-6, the graph norm's weight).
    """
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    torch.manual_seed(0)
    encoder = Encoder(**TINY | {"dropout": 0.0}).double()
    x = torch.randn(6, 3, 16, KINECT_V2.joints, 2).double()
    x[pairs:, ..., 1] = 0
    gradients = []
    for clips in (x, x.flip(0)):
        encoder.zero_grad()
        features = encoder.represent(clips)
        (features * torch.linspace(-1, 1, features.shape[1])).sum().backward()
        gradients.append({name: p.grad.clone() for name, p in encoder.named_parameters()})
    forth, back = gradients
    widest = 12 * (4 * TINY["width"]) * KINECT_V2.joints * 16  # numbers of an activation
    largest = max(gradient.abs().max().item() for gradient in forth.values())
    rounding = widest * torch.finfo(torch.float64).eps * largest  # 2e-9
    for name, gradient in forth.items():
        if pairs != 1 or not name.endswith((".adjacency", ".alpha")):
            torch.testing.assert_close(back[name], gradient, rtol=0, atol=rounding)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_channels_of_an_absent_body_start_at_exactly_zero(precision: torch.dtype) -> None:
    """After the first graph convolution, where no clip of the batch has a second body."""
    torch.manual_seed(0)
    encoder = Encoder(**TINY).train()
    block = encoder.temporal.features.blocks[0]
    seen = []
    block.temporal.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = torch.randn(6, 3, 16, KINECT_V2.joints, 2)
    x[..., 1] = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        encoder.represent(x)
    (activations,) = seen
    assert torch.equal(activations[1], torch.zeros_like(activations[1]))
    assert (activations[2:].flatten(1) > 0).any(dim=1).all()


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


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((2, 3, 16, 20, 2), torch.float32, ValueError),
        ((2, 3, 16, 25, 1), torch.float32, ValueError),
        ((2, 3, 15, 25, 2), torch.float32, ValueError),
        ((2, 4, 16, 25, 2), torch.float32, ValueError),
        ((3, 16, 25, 2), torch.float32, ValueError),
        ((0, 3, 16, 25, 2), torch.float32, ValueError),
        ((2, 3, 16, 25, 2), torch.float64, TypeError),
        ((2, 3, 16, 25, 2), torch.long, TypeError),
    ],
)
def test_input_that_the_encoder_does_not_take_is_refused(
    shape: tuple[int, ...], dtype: torch.dtype, error: type[Exception]
) -> None:
    takes, got = (
        (r"\(B, 3, 16, 25, 2\)", str(shape))
        if error is ValueError
        else ("torch.float32", str(dtype))
    )
    with pytest.raises(error, match=f"^this encoder takes {takes}.*; got {re.escape(got)}$"):
        Encoder(**TINY).eval().represent(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(("training", "planned"), [(True, True), (True, False), (False, False)])
def test_the_compiler_takes_the_network_whole(training: bool, planned: bool) -> None:
    network = Projector(Encoder(**TINY)).train(training)
    bodies = plan(torch.tensor([True, *[False] * 3]), torch.device("cpu")) if planned else None
    found = torch._dynamo.explain(network)(torch.randn(4, 3, 16, 25, 2), bodies)
    assert found.graph_break_count == 0, found.break_reasons


@pytest.mark.parametrize(
    ("parents", "bodies", "message"),
    [
        (
            KINECT_V1.parents,
            1,
            "an encoder of 25 joints and 2 bodies cannot encode clips of 20 joints and 1 body",
        ),
        (KINECT_V2.parents, 1, "2 bodies cannot encode clips of 25 joints and 1 body: use one"),
        ((0,) * 25, 2, "the encoder's 25 joints are connected otherwise than those of the clips"),
    ],
)
def test_clips_of_another_layout_are_refused_in_one_line(
    parents: tuple[int, ...], bodies: int, message: str
) -> None:
    encoder = Encoder(**TINY)
    encoder.check_layout(parents=list(KINECT_V2.parents), bodies=2)
    with pytest.raises(UserError, match=message) as refused:
        encoder.check_layout(parents=parents, bodies=bodies)
    assert "\n" not in str(refused.value)


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
