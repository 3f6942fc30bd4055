"""The SCD-Net encoder: a clip in, a temporal and a spatial vector out (AAAI 2024, section 3.2)."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from errors import UserError
from machine.host import atomic
from model.network import weights
from model.network.absent_bodies import Plan
from model.network.backbone import CTRGCN
from model.network.products import TokenLinear

MOST = 1000  # joints, or layers, that a file may state: building takes time for each
COMPILATIONS = 64  # after which PyTorch would compile no more: of parts, domains, networks, plans


def _call(module: nn.Module, *arguments: Any) -> Any:
    return module(*arguments)


def compile_in_training(*encoders: "Encoder", **options: Any) -> None:
    """Have torch.compile compile the parts of `encoders` at their first step of each shape.

    Parts of the same form, as the graph convolutions of all domains, are compiled once.
    """
    from torch._dynamo import config  # takes a second, which only those who compile need spend

    config.recompile_limit = COMPILATIONS
    compiled = torch.compile(_call, dynamic=False, **options)
    for encoder in encoders:
        encoder.temporal.run = encoder.spatial.run = compiled


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes of an encoder, by default the paper's.

    Args:
        parents: the joint that each joint hangs from, the root its own.
        bodies: bodies in a clip.
        frames: frames in a view.
        width: channels of the first CTR-GCN block.
        dim: width of a token and of each domain's vector.
        heads, layers: of the transformer encoder.
        dropout: of the transformer encoder, active in training mode only.

    Raises:
        ValueError: `dim` is not a multiple of `heads`, or `width` not of 4 (the temporal branches).
    """

    parents: tuple[int, ...]
    bodies: int = 2
    frames: int = 64
    width: int = 64
    dim: int = 2048
    heads: int = 8
    layers: int = 1
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.width % 4:
            raise ValueError(
                f"width {self.width} is not a multiple of 4, the number of temporal branches"
            )


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network of width `dim`, each followed by a norm; ReLU.

    The same function as PyTorch's TransformerEncoderLayer, which puts tokens before samples: its
    backward pass computes a weight gradient for every token, a third of a step's time on a CPU.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = TokenLinear(dim, 3 * dim)  # to queries, keys and values
        self.merge = TokenLinear(dim, dim)
        for linear in (self.project, self.merge):
            nn.init.zeros_(linear.bias)
        self.attend_norm, self.feed_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feed = nn.Sequential(
            TokenLinear(dim, dim), nn.ReLU(), nn.Dropout(dropout), TokenLinear(dim, dim)
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
    """One domain's encoder: CTR-GCN features, embedded as tokens, a transformer encoder, and the
    maximum over the tokens.

    In the temporal domain a token is a frame (all its bodies, joints and channels), in the spatial
    domain a joint of a body (all its frames and channels).
    """

    def __init__(self, kind: str, sizes: Architecture) -> None:
        super().__init__()
        self.kind, self.bodies = kind, sizes.bodies
        joints = len(sizes.parents)
        token = sizes.width * (sizes.bodies * joints if kind == "temporal" else sizes.frames)
        self.features = CTRGCN(sizes.parents, bodies=sizes.bodies, width=sizes.width)
        dim = sizes.dim
        self.embed = nn.Sequential(
            TokenLinear(token, dim), nn.LayerNorm(dim), nn.ReLU(), TokenLinear(dim, dim)
        )
        self.attend = nn.Sequential(
            *(TransformerLayer(dim, sizes.heads, sizes.dropout) for _ in range(sizes.layers))
        )
        self.run: Callable[..., Any] = _call  # calls each part, in training

    def forward(self, x: Tensor, plan: Plan | None = None) -> Tensor:
        """(B, 3, T, V, M) -> (B, dim)."""
        run = self.run if self.training else _call
        features, found = run(self.features, x, plan)
        bodies = plan or found

        def of_all(computed: Tensor) -> Tensor:
            return bodies.spread(computed) if bodies else computed

        if self.kind == "temporal":
            features = of_all(features)
            tokens = rearrange(features, "(b m) c v t -> b t (m v c)", m=self.bodies)
            tokens = run(self.embed, tokens)
        else:  # a token is of one body, so that those of absent bodies, too, are embedded once
            tokens = of_all(run(self.embed, rearrange(features, "r c v t -> r v (t c)")))
            tokens = rearrange(tokens, "(b m) v d -> b (m v) d", m=self.bodies)
        return run(self.attend, tokens).amax(dim=1)


class Encoder(nn.Module):
    """Two domain encoders of the same architecture with separate weights.

    The keyword arguments are the fields of `Architecture`, and so are the keys of the attribute
    `architecture`, a dictionary.
    """

    def __init__(self, *, parents: Sequence[int], **sizes: Any) -> None:
        super().__init__()
        architecture = Architecture(tuple(parents), **sizes)
        self.architecture = dataclasses.asdict(architecture)
        self.notes: dict[str, Any] = {}  # of the file that `load_encoder` read
        self.temporal = Domain("temporal", architecture)
        self.spatial = Domain("spatial", architecture)
        _initialise_matrices(self)

    def forward(self, x: Tensor, plan: Plan | None = None) -> tuple[Tensor, Tensor]:
        """(B, 3, T, V, M) -> the temporal and the spatial vector, each (B, dim).

        `plan` says which bodies are computed, as a compiler needs it, and changes no result.

        Raises:
            TypeError, ValueError: `x` has another dtype than the weights, or another shape.
        """
        self._check_input(x)
        return self.temporal(x, plan), self.spatial(x, plan)

    @property
    def compiled(self) -> bool:
        """True after `compile_in_training`."""
        return self.temporal.run is not _call

    def represent(self, x: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B, 2 * dim): the representation of every downstream task.

        Raises:
            TypeError, ValueError: `x` has another dtype than the weights, or another shape.
        """
        return torch.cat(self(x), dim=1)

    def check_layout(self, *, parents: Sequence[int], bodies: int) -> None:
        """Raise UserError unless the encoder takes clips of this skeleton and number of bodies."""
        own_parents, own_bodies = (self.architecture[key] for key in ("parents", "bodies"))
        if (len(own_parents), own_bodies) != (len(parents), bodies):
            raise UserError(
                f"an encoder of {_size(own_parents, own_bodies)} cannot encode clips of "
                f"{_size(parents, bodies)}: use one that was trained on this layout"
            )
        if own_parents != tuple(parents):
            raise UserError(
                f"the encoder's {len(parents)} joints are connected otherwise than those of the "
                "clips: use one that was trained on this layout"
            )

    def _check_input(self, x: Tensor) -> None:
        frames, parents, bodies = (self.architecture[k] for k in ("frames", "parents", "bodies"))
        if x.shape[1:] != (3, frames, len(parents), bodies) or len(x) == 0:
            raise ValueError(
                f"this encoder takes (B, 3, {frames}, {len(parents)}, {bodies}): clips (at least "
                f"1), x y z, frames, joints, bodies; got {tuple(x.shape)}"
            )
        dtype = self.temporal.features.norm.weight.dtype
        if x.dtype != dtype:
            raise TypeError(f"this encoder takes {dtype}, as its weights are; got {x.dtype}")


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
            _initialise_matrices(part)

    def forward(self, x: Tensor, plan: Plan | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, T, V, M) -> z_t, z_s, z_i, each (B, projection), not normalised."""
        v_t, v_s = self.encoder(x, plan)
        v_i = torch.cat([v_t, v_s], dim=1)
        return self.temporal(v_t), self.spatial(v_s), self.instance(v_i)


def _size(parents: Sequence[int], bodies: int) -> str:
    return f"{len(parents)} joints and {bodies} {'body' if bodies == 1 else 'bodies'}"


def _initialise_matrices(module: nn.Module) -> None:
    """Start 2-D parameters Xavier-uniform, as in the released code."""
    for parameter in module.parameters():
        if parameter.dim() == 2:
            nn.init.xavier_uniform_(parameter)


def save_encoder(encoder: Encoder, path: Path, **notes: Any) -> None:
    """Write the weights, what `load_encoder` needs to rebuild the encoder, and plain `notes`.

    Raises:
        UserError: a weight is not finite; nothing is written.
        OSError: the disk is full, or the like; what was there is kept.
    """
    if name := weights.not_finite(encoder):
        raise UserError(f"{path}: not written: {name} has values that are not finite")
    saved = {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": notes}
    atomic.write(path, weights.packed(saved))


def load_encoder(path: Path | str) -> Encoder:
    """The encoder of a weights file, in evaluation mode on the CPU.

    This is all that another project needs: `load_encoder(path).represent(x)`, with x a float32
    (B, 3, T, V, M) in metres, prepared and resized as the evaluation view is.

    Raises:
        UserError: the file is not a weights file of this project, or a weight is not finite.
    """
    saved = weights.read(path)
    if "state_dict" in saved and "state" not in saved:
        raise UserError(
            f"{path}: not a weights file of this project; model.exchange.released.load_released "
            "reads a checkpoint of the released code"
        )
    if missing := [key for key in ("architecture", "state") if key not in saved]:
        raise UserError(
            f"{path}: not a weights file of this project: no {' and no '.join(missing)}"
        )
    encoder = restored(saved["architecture"], saved["state"], path)
    if isinstance(notes := saved.get("notes"), dict):
        encoder.notes = notes
    return encoder


def restored(architecture: Any, state: Any, path: Path | str) -> Encoder:
    """The encoder of the architecture and the weights that the file at `path` states, in evaluation
    mode on the CPU. Raises UserError where they cannot be, before it takes their memory.
    """
    try:
        if max(architecture["layers"], len(architecture["parents"])) > MOST:
            raise ValueError(f"more than {MOST} layers or joints")
        with torch.device("meta"):
            encoder = Encoder(**architecture)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: its architecture cannot be built: {reason}") from None
    weights.load_state(encoder, state, path)
    return encoder.eval()
