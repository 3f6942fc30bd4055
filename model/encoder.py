"""The SCD-Net encoder: a clip in, a temporal and a spatial vector out (AAAI 2024, section 3.2)."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from model import ctrgcn
from model.ctrgcn import CTRGCN, SUBSETS, convolves


class Linear(nn.Linear):
    """A linear layer of tokens, as a 1x1 convolution where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, I) -> (B, tokens, O)."""
        if not convolves(x):
            return super().forward(x)
        image = x.flatten(0, 1)[None, None].movedim(3, 1)  # (1, I, 1, B * tokens), channels last
        y = F.conv2d(image, self.weight[..., None, None], self.bias)
        return y.movedim(1, 3)[0, 0].unflatten(0, x.shape[:2])


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network of width `dim`, each followed by a norm; ReLU.

    The same function as PyTorch's TransformerEncoderLayer, which puts tokens before samples: the
    backward pass then makes a weight gradient for every token, a third of a step's time on a CPU.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = Linear(dim, 3 * dim)  # to queries, keys and values
        self.merge = Linear(dim, dim)
        for linear in (self.project, self.merge):
            nn.init.zeros_(linear.bias)
        self.attend_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(
            Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), Linear(dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, dim) -> (B, tokens, dim)."""
        query, key, value = rearrange(
            self.project(x), "b l (part h d) -> part b h l d", part=3, h=self.heads
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout.p if self.training else 0.0
        )
        attended = self.merge(rearrange(attended, "b h l d -> b l (h d)"))
        x = self.attend_norm(x + self.dropout(attended))
        return self.feed_norm(x + self.dropout(self.feed(x)))


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
        self.kind, self.bodies = kind, bodies
        size = width * (bodies * len(parents) if kind == "temporal" else frames)
        self.features = CTRGCN(parents, bodies=bodies, width=width)
        self.embed = nn.Sequential(
            Linear(size, dim), nn.LayerNorm(dim), nn.ReLU(), Linear(dim, dim)
        )
        self.attend = nn.Sequential(*(TransformerLayer(dim, heads, dropout) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B, dim)."""
        features, rows = self.features(x)
        if self.kind == "temporal":
            each = features.index_select(0, rows)
            tokens = self.embed(rearrange(each, "(b m) c v t -> b t (m v c)", m=self.bodies))
        else:  # a token is of one body, so that those of the absent are embedded once, too
            some = self.embed(rearrange(features, "r c v t -> r v (t c)"))
            each = some.index_select(0, rows)
            tokens = rearrange(each, "(b m) v d -> b (m v) d", m=self.bodies)
        return self.attend(tokens).amax(dim=1)


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


def folded(encoder: Encoder) -> Encoder:
    """A copy for inference alone, faster: batch norms are part of the convolutions before them."""
    encoder = copy.deepcopy(encoder).eval()
    for domain in (encoder.temporal, encoder.spatial):
        domain.features = ctrgcn.folded(domain.features)
    return encoder


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
    """Writes the weights, what `load_encoder` needs to rebuild the encoder, and plain `notes`.

    The file is a new one: the old one may be a hard link to a cache's, which must not change.
    """
    beside = path.with_suffix(".partial")
    torch.save(
        {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": notes},
        beside,
    )
    beside.replace(path)


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


TRANSFORMER_NAMES = {
    "self_attn.in_proj_": "project.",
    "self_attn.out_proj": "merge",
    "linear1": "feed.0",
    "linear2": "feed.3",
    "norm1": "attend_norm",
    "norm2": "feed_norm",
}


def from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names and arrays (weights, statistics or gradients) as ours.

    Takes the names below `encoder_q.` (with heads) or below `encoder_q.encoder.` (without), and
    raises KeyError for a name that is missing. Our convolutions that share an input are the
    released ones laid end to end.
    """

    def norm(ours: str, *theirs: str, after: Sequence[str] = ()) -> dict[str, Tensor]:
        """Batch norms laid end to end; `after` are the convolutions whose biases they take away."""
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

    def interleaved(theirs: Sequence[str], field: str) -> Tensor:
        return torch.stack([released[f"{name}.{field}"] for name in theirs], dim=1)

    def block(ours: str, theirs: str) -> dict[str, Tensor]:
        gcn, tcn = f"{theirs}.gcn1", f"{theirs}.tcn1.branches"
        subset = [f"{gcn}.convs.{k}" for k in range(SUBSETS)]
        squeeze = [f"{tcn}.{b}.0" for b in range(3)]
        state = {
            f"{ours}.graph.alpha": released[f"{gcn}.alpha"],
            f"{ours}.graph.adjacency": released[f"{gcn}.PA"],
            f"{ours}.graph.value.weight": interleaved(
                [f"{s}.conv3" for s in subset], "weight"
            ).flatten(0, 1)[..., 0],
            f"{ours}.graph.value_bias": interleaved([f"{s}.conv3" for s in subset], "bias")[
                ..., None
            ],
            f"{ours}.graph.refine": interleaved([f"{s}.conv4" for s in subset], "weight")[
                ..., 0, 0
            ],
            f"{ours}.graph.refine_bias": interleaved([f"{s}.conv4" for s in subset], "bias")[
                ..., None
            ],
            **norm(f"{ours}.graph_norm", f"{gcn}.bn"),
            **pointwise(f"{ours}.around", f"{gcn}.down.0"),
            **norm(f"{ours}.around_norm", f"{gcn}.down.1", after=[f"{gcn}.down.0"]),
            **pointwise(f"{ours}.temporal.squeeze", *squeeze),
            **norm(
                f"{ours}.temporal.squeeze_norm", *(f"{tcn}.{b}.1" for b in range(3)), after=squeeze
            ),
            **norm(f"{ours}.temporal.pool_norm", f"{tcn}.2.4"),
            **pointwise(f"{ours}.temporal.same", f"{tcn}.3.0"),
            **norm(f"{ours}.temporal.same_norm", f"{tcn}.3.1", after=[f"{tcn}.3.0"]),
        }
        for name, number in (("query", 1), ("key", 2)):
            convs = [f"{s}.conv{number}" for s in subset]
            state |= pointwise(f"{ours}.graph.{name}", *convs)
            state[f"{ours}.graph.{name}.bias"] = torch.cat([released[f"{c}.bias"] for c in convs])
        for branch, name in enumerate(("near", "far")):
            conv = f"{tcn}.{branch}.3.conv"
            state[f"{ours}.temporal.{name}.weight"] = released[f"{conv}.weight"].mT
            state |= norm(f"{ours}.temporal.{name}_norm", f"{tcn}.{branch}.3.bn", after=[conv])
        if f"{theirs}.residual.conv.weight" in released:
            conv = f"{theirs}.residual.conv"
            state |= pointwise(f"{ours}.over", conv)
            state |= norm(f"{ours}.over_norm", f"{theirs}.residual.bn", after=[conv])
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
