"""Encoders for other programs: safetensors, and ONNX with a free number of clips.

Both carry text under names of the caller's and, as JSON under `architecture`, what builds the
encoder.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from errors import UserError
from machine.host import atomic
from model.network.encoder import Encoder, restored
from model.network.folding import folded

INPUT, OUTPUT = "clips", "features"  # names in an ONNX file
TOLERANCE = 1e-4  # of a feature, or of 1 where that is larger: kernels round in their own order
_CHECKED = (1, 5)  # clips in the batches that check a file


def save_safetensors(encoder: Encoder, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights and statistics under the names of `Encoder`, every time the same bytes.

    Raises UserError where the package safetensors is not installed.
    """
    state = {name: array.contiguous() for name, array in encoder.state_dict().items()}
    data = _needed("safetensors.torch").save(state)
    # The package puts metadata in a random order, so it is added to the header here: JSON, padded
    # to a multiple of 8 bytes, after its length in 8 bytes.
    end = 8 + int.from_bytes(data[:8], "little")
    metadata = {"format": "pt", **_with_architecture(encoder, metadata)}
    header = json.dumps({"__metadata__": metadata, **json.loads(data[8:end])}).encode()
    header += b" " * (-len(header) % 8)
    atomic.write(path, len(header).to_bytes(8, "little") + header + data[end:])


def load_safetensors(path: Path | str) -> Encoder:
    """The encoder that `save_safetensors` wrote, in evaluation mode on the CPU.

    Raises:
        UserError: the file is another, or damaged, or safetensors is not installed.
    """
    package = _needed("safetensors")
    try:
        with package.safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        architecture = json.loads(text["architecture"])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'there is no such file'}") from None
    except (package.SafetensorError, KeyError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not an encoder that this project exported: {error}") from None
    return restored(architecture, state, path)


def save_onnx(encoder: Encoder, path: Path, metadata: Mapping[str, str]) -> float:
    """Write `represent` as an ONNX graph: `clips` (batch, 3, T, V, M) float32 to `features`
    (batch, 2 * dim) float32, any batch of at least 1.

    Return the largest difference of a feature, relative to it where it is above 1, between ONNX
    Runtime on the file and the encoder on random clips.

    Raises:
        UserError: it is above `TOLERANCE`, and nothing is written; or a package is not installed.
    """
    onnx, _, _ = map(_needed, ("onnx", "onnxscript", "onnxruntime"))
    frames, parents, bodies = (encoder.architecture[k] for k in ("frames", "parents", "bodies"))
    shape = (3, frames, len(parents), bodies)
    graph = _graph(encoder, torch.zeros(max(_CHECKED), *shape))
    onnx.helper.set_model_props(graph, _with_architecture(encoder, metadata))
    with atomic.file(path) as beside:
        onnx.save(graph, beside)
        difference = _difference(beside, encoder, shape)
        if difference > TOLERANCE:
            raise UserError(
                f"{path}: not written: its features differ by {difference:.1e} from the "
                f"encoder's, more than {TOLERANCE:.0e}"
            )
    return difference


def _graph(encoder: Encoder, example: Tensor) -> Any:
    """The ONNX model of `represent`, traced with clips like the `example`."""
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)  # it lists packages that are not installed
    try:
        with warnings.catch_warnings(action="ignore"):
            # With gradients, and by the compiler: without, the network asks how many clips there
            # are, to keep activations in a cache and to compute absent bodies once.
            with torch.enable_grad():
                program = torch.export.export(
                    _Represent(encoder),
                    (example,),
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    strict=True,
                )
            found = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
    finally:
        noisy.setLevel(level)
    assert found is not None
    graph = found.model_proto
    for node in graph.graph.node:
        node.ClearField("metadata_props")  # half of the file, with this machine's paths
    del graph.graph.value_info[:]
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return graph


class _Represent(nn.Module):
    """An encoder's representation, for inference only, as a module's forward pass."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = folded(encoder)
        self.eval()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, V, M) -> (B, 2 * dim)."""
        return self.encoder.represent(clips)


def _difference(path: Path, encoder: Encoder, shape: tuple[int, ...]) -> float:
    """The largest difference that `save_onnx` returns, of clips of this `shape`."""
    session = _needed("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch in _CHECKED:
        clips = torch.randn(batch, *shape, generator=generator)
        clips[::2, ..., 1:] = 0  # absent bodies
        with torch.no_grad():
            expected = encoder.represent(clips)
        (features,) = session.run([OUTPUT], {INPUT: clips.numpy()})
        apart = (torch.from_numpy(features) - expected).abs() / expected.abs().clamp(min=1)
        largest = max(largest, apart.max().item())
    return largest


def _with_architecture(encoder: Encoder, metadata: Mapping[str, str]) -> dict[str, str]:
    return {"architecture": json.dumps(encoder.architecture), **metadata}


def _needed(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        name = package.partition(".")[0]
        raise UserError(f"{name} is not installed: pip install '.[export]'") from None
