"""The objective: a training step of the released code, a plain computation, an analytic case."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layouts import KINECT_V2
from torch import nn

from learning.training.pretrain import DOMAINS, TERMS, SCDNet, contrast
from model.exchange.released import from_released
from model.network.encoder import Encoder, Projector, compile_in_training

GOLDEN = Path(__file__).parent / "golden" / "step_tiny.npz"


def tiny(**settings: object) -> SCDNet:
    encoder = Encoder(parents=KINECT_V2.parents, frames=16, width=8, dim=16, heads=4, dropout=0.0)
    return SCDNet(Projector(encoder, projection=8), queue=16, **settings)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def below(golden: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def test_one_step_equals_released(golden: dict[str, torch.Tensor]) -> None:
    net = tiny(momentum=0.999, temperature=0.2)
    net.query.load_state_dict(from_released(below(golden, "before/encoder_q.")))
    net.key.load_state_dict(from_released(below(golden, "before/encoder_k.")))
    for domain in DOMAINS:
        net.queue(domain).copy_(golden[f"before/{domain[0]}_queue"].T)
    optimiser = torch.optim.SGD(net.query.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    loss, figures = net(golden["q"], golden["k"])
    loss.backward()
    optimiser.step()

    expected = golden["losses_ti_si_it_is"].float()
    ours = torch.stack([figures[term] for term in ("ti", "si", "it", "is")])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(loss, expected.sum(), rtol=1e-4, atol=0)
    gradients = from_released(below(golden, "grad/"))
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in net.query.named_parameters():
        # A bias before a batch norm has gradient zero, up to rounding: hence the absolute part.
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=1e-4, atol=1e-5 * float(scale), msg=name
        )
    for ours, released in ((net.query, "after/encoder_q."), (net.key, "after/encoder_k.")):
        after = from_released(below(golden, released))
        for name, array in ours.state_dict().items():
            # The released biases that a norm takes away, which ours does not have, show up in its
            # running mean: the golden key network's start off the query's and move by 5e-5.
            atol = 6e-5 if name.endswith("running_mean") else 1e-6
            torch.testing.assert_close(array, after[name], rtol=1e-4, atol=atol, msg=name)
    for domain in DOMAINS:
        after_queue = golden[f"after/{domain[0]}_queue"].T
        torch.testing.assert_close(net.queue(domain), after_queue, rtol=1e-4, atol=1e-6)
    assert net.pointer == golden["after/t_queue_ptr"].item()


def test_contrast_against_a_plain_computation() -> None:
    torch.manual_seed(0)
    query, key = F.normalize(torch.randn(3, 5), dim=1), F.normalize(torch.randn(3, 5), dim=1)
    queue = F.normalize(torch.randn(7, 5), dim=1)
    loss = F.cross_entropy(contrast(query, key, queue, 0.2), torch.zeros(3, dtype=torch.long))
    plain = 0.0
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        similar = [
            sum(a * b for a, b in zip(q, other, strict=True)) / 0.2
            for other in [k, *queue.tolist()]
        ]
        plain -= math.log(math.exp(similar[0]) / sum(map(math.exp, similar)))
    assert loss.item() == pytest.approx(plain / 3, rel=1e-5)


def test_contrast_analytic() -> None:
    """A query on its key and orthogonal to all K negatives: log(1 + K exp(-1 / T))."""
    axes = torch.eye(6)
    loss = F.cross_entropy(contrast(axes[:1], axes[:1], axes[1:], 0.5), torch.zeros(1).long())
    assert loss.item() == pytest.approx(math.log(1 + 5 * math.exp(-2)), rel=1e-6)


def test_the_key_network_follows_without_gradients() -> None:
    torch.manual_seed(0)
    net = tiny(momentum=0.9)
    assert all(not p.requires_grad for p in net.key.parameters())
    with torch.no_grad():
        for parameter in net.query.parameters():
            parameter.add_(1.0)
    before = [p.clone() for p in net.key.parameters()]
    net.momentum_update()
    for old, new, query in zip(before, net.key.parameters(), net.query.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * query)


def test_queues_wrap_round_and_stay_normalised() -> None:
    torch.manual_seed(0)
    net = tiny()
    keys = {d: [F.normalize(torch.randn(4, 8), dim=1) for _ in range(5)] for d in DOMAINS}
    for step in range(5):
        net.enqueue({domain: keys[domain][step] for domain in DOMAINS})
    for domain in DOMAINS:
        expected = torch.cat([keys[domain][step] for step in (4, 1, 2, 3)])
        assert torch.equal(net.queue(domain), expected)
    assert net.pointer == 4


@pytest.mark.parametrize("terms", [("ti",), ("it", "is"), tuple(TERMS)])
def test_the_loss_is_the_sum_of_the_chosen_terms(terms: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    net = tiny(terms=terms)
    views = torch.randn(2, 4, 3, 16, KINECT_V2.joints, 2)
    loss, figures = net(*views)
    assert set(figures) == {*terms, "accuracy"}
    torch.testing.assert_close(loss.detach(), sum(figures[term] for term in terms))


def test_dropout_is_off_where_asked() -> None:
    assert all(m.p == 0 for m in tiny().modules() if isinstance(m, nn.Dropout))


def test_a_collapsed_network_finds_no_key() -> None:
    net = tiny()
    same = [torch.ones(4, 8)] * 3
    for domain in DOMAINS:
        net.queue(domain).copy_(F.normalize(torch.ones(16, 8), dim=1))
    _, figures = net.loss(same, same)
    assert figures["accuracy"] == 0
    assert figures["ti"].item() == pytest.approx(math.log(17), rel=1e-5)


@pytest.mark.parametrize("dim", [16, 128])
def test_a_collapsed_network_finds_no_key_however_its_vectors_are_rounded(dim: int) -> None:
    """All projections are the same random vector, exactly or but for the last bit."""
    encoder = Encoder(parents=KINECT_V2.parents, frames=16, width=8, dim=16, heads=4)
    net = SCDNet(Projector(encoder, projection=dim), queue=16)
    for draw in range(50):
        torch.manual_seed(draw)
        z = F.normalize(torch.randn(1, dim), dim=1)
        # In each row some numbers are the next larger ones, as another order of a sum gives them.
        rounded = torch.where(torch.rand(8, dim) < 0.5, z, z.nextafter(2 * z))
        for keys in (z.expand(8, dim), rounded):
            for _ in range(2):  # all of the queues
                net.loss((z.expand(8, dim),) * 3, (keys,) * 3)
            _, figures = net.loss((z.expand(8, dim),) * 3, (keys,) * 3)
            assert figures["accuracy"] == 0, draw


def test_the_accuracy_is_how_many_queries_find_their_own_key() -> None:
    """Counted in float64, one query at a time."""
    torch.manual_seed(0)
    net = tiny(terms=("ti", "si"))
    queries = [torch.randn(40, 8) for _ in DOMAINS]
    keys = [queries[1] + 1.5 * torch.randn(40, 8) for _ in DOMAINS]
    queue = net.queue("i").double()
    net.enqueue = lambda keys: None  # type: ignore[method-assign]  # 40 do not fit
    found = 0
    for query, key in zip(queries[1].double(), keys[2].double(), strict=True):
        similarities = F.normalize(torch.stack([key, *queue]), dim=1) @ query
        found += int(similarities[0] > similarities[1:].max())
    assert 0 < found < 40
    assert net.loss(queries, keys)[1]["accuracy"].item() == pytest.approx(100 * found / 40)


def test_filling_enters_the_momentum_networks_keys() -> None:
    torch.manual_seed(0)
    net = tiny()
    view = torch.randn(4, 3, 16, KINECT_V2.joints, 2)
    weights = [p.clone() for p in net.parameters()]
    keys = dict(zip(DOMAINS, net.key(view), strict=True))
    net.warm_up_queue(view)
    for domain in DOMAINS:
        torch.testing.assert_close(net.queue(domain)[:4], F.normalize(keys[domain], dim=1))
    assert net.pointer == 4
    assert all(map(torch.equal, weights, net.parameters()))


def test_compiled_steps_are_close_to_those_that_are_not() -> None:
    """Traced, cut into functions and differentiated as for `pretrain.compile`, without the minutes
    that a C++ compiler takes for them.
    """
    torch.manual_seed(0)
    net = tiny()
    compiled = copy.deepcopy(net)
    compile_in_training(compiled.query.encoder, compiled.key.encoder, backend="aot_eager")
    for _ in range(2):
        views = torch.randn(2, 4, 3, 16, KINECT_V2.joints, 2)
        losses = []
        for one in (net, compiled):
            optimiser = torch.optim.SGD(one.query.parameters(), lr=0.01)
            loss, _ = one(*views)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.detach())
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
    for (name, ours), expected in zip(
        compiled.state_dict().items(), net.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4, msg=name)
