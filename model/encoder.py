"""The SCD-Net encoder: a clip in, a temporal and a spatial vector out (AAAI 2024, section 3.2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from model.ctrgcn import CTRGCN, SUBSETS

TOKENS = {
    "temporal": "(b m) c t v -> b t (m v c)",
    "spatial": "(b m) c t v -> b (m v) (t c)",
}


class Domain(nn.Module):
    """One domain's encoder: CTR-GCN features as tokens, embedded, related by attention, and
    max-pooled.

    In the temporal domain a token is a frame (all bodies, joints and channels of it), in the
    spatial domain a joint of a body (all its frames and channels).
    """

    def __init__(
        self,
        kind: str,
        *,
        parents: Sequence[int],
        bodies: int,
        frames: int,
        width: int,
        dim: int,
        heads: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.bodies = bodies
        self.tokens = TOKENS[kind]
        size = width * (bodies * len(parents) if kind == "temporal" else frames)
        self.features = CTRGCN(parents, bodies=bodies, width=width)
        self.embed = nn.Sequential(
            nn.Linear(size, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        layer = nn.TransformerEncoderLayer(dim, heads, dim, dropout, batch_first=True)
        self.attend = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B, dim)."""
        tokens = rearrange(self.features(x), self.tokens, m=self.bodies)
        return self.attend(self.embed(tokens)).amax(dim=1)


class Encoder(nn.Module):
    """Two domain encoders of the same architecture with separate weights.

    Args:
        parents: the joint that each joint hangs from, the root its own.
        bodies: bodies in a clip.
        frames: frames in a view.
        width: channels of the first CTR-GCN block (64 in the paper).
        dim: width of a token and of each domain's vector (2048 in the paper).
        heads, layers: of the transformer encoder.
        dropout: of the transformer encoder, active in training mode only.

    Raises:
        ValueError: `dim` is not a multiple of `heads`, or `width` not of 4 (the temporal branches).
    """

    def __init__(
        self,
        *,
        parents: Sequence[int],
        bodies: int = 2,
        frames: int = 64,
        width: int = 64,
        dim: int = 2048,
        heads: int = 8,
        layers: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        if width % 4:
            raise ValueError(
                f"width {width} is not a multiple of 4, the number of temporal branches"
            )
        self.architecture: dict[str, Any] = {
            "parents": tuple(parents),
            "bodies": bodies,
            "frames": frames,
            "width": width,
            "dim": dim,
            "heads": heads,
            "layers": layers,
            "dropout": dropout,
        }
        self.temporal = Domain("temporal", **self.architecture)
        self.spatial = Domain("spatial", **self.architecture)
        _start_matrices(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, T, V, M) -> the temporal and the spatial vector, each (B, dim)."""
        return self.temporal(x), self.spatial(x)

    def represent(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B, 2 * dim): the representation of every downstream task."""
        return torch.cat(self(x), dim=1)


class Projector(nn.Module):
    """The encoder with the three pretraining heads: temporal, spatial and instance."""

    def __init__(self, encoder: Encoder, *, projection: int = 128) -> None:
        super().__init__()
        dim = encoder.architecture["dim"]

        def head(size: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(size, dim), nn.ReLU(), nn.Linear(dim, projection))

        self.encoder = encoder
        self.projection = projection
        self.temporal, self.spatial, self.instance = head(dim), head(dim), head(2 * dim)
        for part in (self.temporal, self.spatial, self.instance):
            _start_matrices(part)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, T, V, M) -> z_t, z_s, z_i, each (B, projection), not normalised."""
        v_t, v_s = self.encoder(x)
        v_i = torch.cat([v_t, v_s], dim=1)
        return self.temporal(v_t), self.spatial(v_s), self.instance(v_i)


def _start_matrices(module: nn.Module) -> None:
    """2-D parameters start Xavier-uniform, as in the released code."""
    for parameter in module.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)


def save_encoder(encoder: Encoder, path: Path, **notes: Any) -> None:
    """Writes the weights, what `load_encoder` needs to rebuild the encoder, and plain `notes`."""
    torch.save(
        {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": notes}, path
    )


def load_encoder(path: Path | str) -> Encoder:
    """The encoder of a weights file, in evaluation mode on the CPU.

    This is all that another project needs: `load_encoder(path).represent(x)`, with x a float32
    (B, 3, T, V, M) in metres, prepared and resized as the evaluation view is.

    Raises:
        ValueError: the file is not a weights file of this project.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        encoder = Encoder(**saved["architecture"])
        encoder.load_state_dict(saved["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a weights file of this project ({error})") from None
    return encoder.eval()


def load_released(path: Path | str, *, parents: Sequence[int], heads: int = 8) -> Encoder:
    """The query encoder of a released `checkpoint.pth.tar`, in evaluation mode on the CPU.

    Sizes are read off the weights, except `heads`, which leave no trace in them.

    Raises:
        ValueError: the file holds no `state_dict` with `encoder_q.encoder.` names.
    """
    try:
        released = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "encoder_q.encoder."
        state = from_released(
            {k.removeprefix(prefix): v for k, v in released.items() if k.startswith(prefix)}
        )
        width = released[prefix + "gcn_t.l1.gcn1.bn.weight"].shape[0]
        dim, size = released[prefix + "channel_t.0.weight"].shape
        encoder = Encoder(
            parents=parents,
            bodies=size // (width * len(parents)),
            frames=released[prefix + "channel_s.0.weight"].shape[1] // width,
            width=width,
            dim=dim,
            heads=heads,
            layers=len({k.split(".")[4] for k in released if k.startswith(prefix + "t_encoder.")}),
        )
        encoder.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: not a released SCD-Net checkpoint ({error})") from None
    return encoder.eval()


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and arrays (weights, statistics or gradients) as ours.

    Takes the names below `encoder_q.` (with heads) or below `encoder_q.encoder.` (without), and
    raises KeyError for a name that is missing. Our convolutions that share an input are the
    released ones laid end to end.
    """

    def join(*names: str) -> Tensor:
        return torch.cat([released[name] for name in names])

    def norms(ours: str, *theirs: str) -> dict[str, Tensor]:
        fields = ("weight", "bias", "running_mean", "running_var")
        state = {
            f"{ours}.{field}": join(*(f"{name}.{field}" for name in theirs))
            for field in fields
            if f"{theirs[0]}.{field}" in released
        }
        count = f"{theirs[0]}.num_batches_tracked"
        return state | (
            {f"{ours}.num_batches_tracked": released[count]} if count in released else {}
        )

    def convs(ours: str, *theirs: str) -> dict[str, Tensor]:
        return {
            f"{ours}.{f}": join(*(f"{name}.{f}" for name in theirs)) for f in ("weight", "bias")
        }

    def block(ours: str, theirs: str) -> dict[str, Tensor]:
        gcn, tcn = f"{theirs}.gcn1", f"{theirs}.tcn1.branches"
        subset = [f"{gcn}.convs.{k}" for k in range(SUBSETS)]
        over = [f"{theirs}.residual"] * (f"{theirs}.residual.conv.weight" in released)
        relate = [f"{s}.conv{n}" for n in (1, 2) for s in subset]
        state = {
            **convs(
                f"{ours}.read",
                *(f"{s}.conv3" for s in subset),
                f"{gcn}.down.0",
                *(f"{r}.conv" for r in over),
            ),
            **norms(f"{ours}.residual_norm", f"{gcn}.down.1", *(f"{r}.bn" for r in over)),
            **convs(f"{ours}.graph.relate", *relate),
            **norms(f"{ours}.graph_norm", f"{gcn}.bn"),
            **convs(f"{ours}.temporal.squeeze", *(f"{tcn}.{b}.0" for b in range(4))),
            **norms(f"{ours}.temporal.squeeze_norm", *(f"{tcn}.{b}.1" for b in range(4))),
            **convs(f"{ours}.temporal.dilated.0", f"{tcn}.0.3.conv"),
            **convs(f"{ours}.temporal.dilated.1", f"{tcn}.1.3.conv"),
            **norms(f"{ours}.temporal.norm", f"{tcn}.0.3.bn", f"{tcn}.1.3.bn", f"{tcn}.2.4"),
            f"{ours}.graph.alpha": released[f"{gcn}.alpha"],
            f"{ours}.graph.adjacency": released[f"{gcn}.PA"],
        }
        for k, s in enumerate(subset):
            state |= convs(f"{ours}.graph.refine.{k}", f"{s}.conv4")
        return state

    root = "encoder." if "encoder.channel_t.0.weight" in released else ""
    state: dict[str, Tensor] = {}
    for ours, letter in (("temporal", "t"), ("spatial", "s")):
        ours = root + ours
        state |= norms(f"{ours}.features.norm", f"{root}gcn_{letter}.data_bn")
        for number in range(3):
            theirs = f"{root}gcn_{letter}.l{number + 1}"
            state |= block(f"{ours}.features.blocks.{number}", theirs)
        for prefix, name in ((f"channel_{letter}", "embed"), (f"{letter}_encoder", "attend")):
            prefix = f"{root}{prefix}."
            state |= {
                f"{ours}.{name}.{k.removeprefix(prefix)}": v
                for k, v in released.items()
                if k.startswith(prefix)
            }
    if root:
        for ours, prefix in (("temporal", "t_proj"), ("spatial", "s_proj"), ("instance", "i_proj")):
            for field in ("0.weight", "0.bias", "2.weight", "2.bias"):
                state[f"{ours}.{field}"] = released[f"{prefix}.{field}"]
    return state
