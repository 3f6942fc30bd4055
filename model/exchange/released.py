"""Weights of the released SCD-Net code, translated to ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from errors import UserError
from model.network import weights
from model.network.encoder import Encoder
from model.network.graph_convolution import SUBSETS

PREFIX = "encoder_q.encoder."
TRANSFORMER_NAMES = {
    "self_attn.in_proj_": "project.",
    "self_attn.out_proj": "merge",
    "linear1": "feed.0",
    "linear2": "feed.3",
    "norm1": "attend_norm",
    "norm2": "feed_norm",
}


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate released names and arrays (weights, statistics or gradients) to ours.

    Take the names below `encoder_q.` (with projection heads) or below `encoder_q.encoder.`
    (without), and raise KeyError for a name that is missing. Released convolutions of the same
    input are concatenated in ours.
    """

    def norm(ours: str, *theirs: str, after: Sequence[str] = ()) -> dict[str, Tensor]:
        """Concatenated batch norms; `after` are the convolutions whose biases they subtract."""
        fields = ("weight", "bias", "running_mean", "running_var")
        state = {
            f"{ours}.{field}": torch.cat([released[f"{name}.{field}"] for name in theirs])
            for field in fields
            if f"{theirs[0]}.{field}" in released
        }
        if f"{ours}.running_mean" in state:
            if after:
                state[f"{ours}.running_mean"] -= torch.cat([released[f"{n}.bias"] for n in after])
            count = "num_batches_tracked"
            state[f"{ours}.{count}"] = released[f"{theirs[0]}.{count}"]
        return state

    def pointwise(ours: str, *theirs: str) -> dict[str, Tensor]:
        return {f"{ours}.weight": torch.cat([released[f"{n}.weight"] for n in theirs])[..., 0]}

    def block(ours: str, theirs: str) -> dict[str, Tensor]:
        gcn, tcn = f"{theirs}.gcn1", f"{theirs}.tcn1.branches"
        subset = [f"{gcn}.convs.{k}" for k in range(SUBSETS)]
        squeeze = [f"{tcn}.{b}.0" for b in range(3)]
        value, value_bias, refine, refine_bias = (
            torch.stack([released[f"{s}.{conv}.{field}"] for s in subset], dim=1)
            for conv in ("conv3", "conv4")
            for field in ("weight", "bias")
        )
        state = {
            f"{ours}.graph.alpha": released[f"{gcn}.alpha"],
            f"{ours}.graph.adjacency": released[f"{gcn}.PA"],
            f"{ours}.graph.value.weight": value.flatten(0, 1)[..., 0],
            f"{ours}.graph.value_bias": value_bias[..., None],
            f"{ours}.graph.refine": refine[..., 0, 0],
            f"{ours}.graph.refine_bias": refine_bias[..., None],
            **norm(f"{ours}.graph_norm", f"{gcn}.bn"),
            **pointwise(f"{ours}.graph_residual", f"{gcn}.down.0"),
            **norm(f"{ours}.graph_residual_norm", f"{gcn}.down.1", after=[f"{gcn}.down.0"]),
            **pointwise(f"{ours}.temporal.squeeze", *squeeze),
            **norm(
                f"{ours}.temporal.squeeze_norm", *(f"{tcn}.{b}.1" for b in range(3)), after=squeeze
            ),
            **norm(f"{ours}.temporal.pool_norm", f"{tcn}.2.4"),
            **pointwise(f"{ours}.temporal.pointwise", f"{tcn}.3.0"),
            **norm(f"{ours}.temporal.pointwise_norm", f"{tcn}.3.1", after=[f"{tcn}.3.0"]),
        }
        for name, number in (("query", 1), ("key", 2)):
            convs = [f"{s}.conv{number}" for s in subset]
            state |= pointwise(f"{ours}.graph.{name}", *convs)
            state[f"{ours}.graph.{name}.bias"] = torch.cat([released[f"{c}.bias"] for c in convs])
        for branch, name in enumerate(("dilation1", "dilation2")):
            conv = f"{tcn}.{branch}.3.conv"
            state[f"{ours}.temporal.{name}.weight"] = released[f"{conv}.weight"].mT
            state |= norm(f"{ours}.temporal.{name}_norm", f"{tcn}.{branch}.3.bn", after=[conv])
        if f"{theirs}.residual.conv.weight" in released:
            conv = f"{theirs}.residual.conv"
            state |= pointwise(f"{ours}.residual", conv)
            state |= norm(f"{ours}.residual_norm", f"{theirs}.residual.bn", after=[conv])
        return state

    root = "encoder." if "encoder.channel_t.0.weight" in released else ""
    state: dict[str, Tensor] = {}
    for ours, letter in (("temporal", "t"), ("spatial", "s")):
        ours = root + ours
        state |= norm(f"{ours}.features.norm", f"{root}gcn_{letter}.data_bn")
        for number in range(3):
            theirs = f"{root}gcn_{letter}.l{number + 1}"
            state |= block(f"{ours}.features.blocks.{number}", theirs)
        for prefix, name in (
            (f"{root}channel_{letter}.", "embed"),
            (f"{root}{letter}_encoder.layers.", "attend"),
        ):
            for theirs, array in released.items():
                if theirs.startswith(prefix):
                    rest = theirs.removeprefix(prefix)
                    for old, new in TRANSFORMER_NAMES.items():
                        rest = rest.replace(old, new)
                    state[f"{ours}.{name}.{rest}"] = array
    if root:
        for ours, prefix in (("temporal", "t_proj"), ("spatial", "s_proj"), ("instance", "i_proj")):
            for field in ("0.weight", "0.bias", "2.weight", "2.bias"):
                state[f"{ours}.{field}"] = released[f"{prefix}.{field}"]
    return state


def load_released(path: Path | str, *, parents: Sequence[int], heads: int = 8) -> Encoder:
    """The query encoder of a released `checkpoint.pth.tar`, in evaluation mode on the CPU.

    Sizes are read off the weights, except `heads`, which leave no trace in them.

    Raises:
        UserError: the file holds no complete `state_dict` with `encoder_q.encoder.` names, is of
            another skeleton than `parents`, or a weight is not finite.
        ValueError: the encoder's width is not a multiple of `heads`.
    """
    saved = weights.read(path)
    if "architecture" in saved:
        raise UserError(
            f"{path}: weights of this project: model.network.encoder.load_encoder reads them"
        )
    names = saved.get("state_dict")
    released = {
        name.removeprefix(PREFIX): array
        for name, array in (names.items() if isinstance(names, Mapping) else ())
        if isinstance(name, str) and name.startswith(PREFIX) and isinstance(array, Tensor)
    }
    if not released:
        raise UserError(
            f"{path}: not a released SCD-Net checkpoint: no `state_dict` with names that begin "
            f"with {PREFIX}"
        )
    try:
        state = from_released(released)
        joints = released["gcn_t.l1.gcn1.PA"].shape[-1]
        width = released["gcn_t.l1.gcn1.bn.weight"].shape[0]
        dim, size = released["channel_t.0.weight"].shape
        bodies = size // (width * joints)
        frames = released["channel_s.0.weight"].shape[1] // width
    except KeyError as error:
        raise UserError(f"{path}: lacks the weight {PREFIX}{error.args[0]}") from None
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: its weights have other shapes than SCD-Net's: {reason}") from None
    if joints != len(parents):
        raise UserError(f"{path}: an encoder of {joints} joints; `parents` has {len(parents)}")
    encoder = Encoder(
        parents=parents,
        bodies=bodies,
        frames=frames,
        width=width,
        dim=dim,
        heads=heads,
        layers=len({name.split(".")[2] for name in released if name.startswith("t_encoder.")}),
    )
    weights.load_state(encoder, state, path)
    return encoder.eval()
