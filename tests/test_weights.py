"""Weights files: an encoder comes back as it was, and anything else is refused in one line."""

import argparse
import pickle
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import KINECT_V2

from errors import UserError
from model.network.encoder import Encoder, load_encoder, save_encoder

TINY = {"parents": KINECT_V2.parents, "frames": 16, "width": 8, "dim": 16, "heads": 4}


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


def contents(encoder: Encoder) -> dict[str, Any]:
    """The contents of a weights file of `encoder`."""
    return {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": {}}


def refusal(path: Path) -> str:
    """The message on a file, less its path."""
    with pytest.raises(UserError) as refused:
        load_encoder(path)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer, not the weights themselves: run `git lfs pull`",
        ),
        (
            b"<!DOCTYPE html>\n<html>" + bytes(b"x" * 300),
            "a text file, not weights; it begins with '<!DOCTYPE html>'",
        ),
        ("gewöhnlicher Text ".encode() * 20, "a text file, not weights; it begins with 'gew"),
        (pickle.dumps(argparse.Namespace(lr=1)), "damaged, or not a file that torch.save wrote"),
        (pickle.dumps({"state": {}}), "damaged, or not a file that torch.save wrote"),
        (bytes(range(256)), "damaged, or not a file that torch.save wrote"),
    ],
    ids=["empty", "git lfs", "html", "text", "namespace", "pickle", "bytes"],
)
def test_a_file_that_torch_did_not_save_is_refused_in_one_line(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(data)
    assert refusal(path).startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: torch.zeros(3), "holds a Tensor, not a dictionary"),
        (lambda saved: [saved], "holds a list, not a dictionary"),
        (lambda saved: {}, "not a weights file of this project: no architecture and no state"),
        (
            lambda saved: {"state_dict": {}},
            r"not a weights file .* model\.exchange\.released\.load_released",
        ),
        (
            lambda saved: {**saved, "arguments": argparse.Namespace(lr=1)},
            r"holds Python objects \(argparse.Namespace\), which are not loaded",
        ),
        (
            lambda saved: {**saved, "best": np.float64(86.5)},
            r"holds Python objects \(numpy.*scalar\), which are not loaded",
        ),
        (lambda saved: {**saved, "state": [1]}, "its weights are a list, not a dictionary"),
        (lambda saved: {**saved, "architecture": 1}, "its architecture cannot be built: "),
        (
            lambda saved: {**saved, "architecture": {**saved["architecture"], "heads": 0}},
            "its architecture cannot be built: ",
        ),
        (
            lambda saved: {**saved, "architecture": {**saved["architecture"], "dim": 32}},
            r"weights that do not fit .*: 36, the first: temporal.embed.0.weight is \(16, 400\), "
            r"not \(32, 400\)",
        ),
        (
            lambda saved: {**saved, "state": {}},
            "weights that do not fit .* the first: temporal.features.norm.weight is missing",
        ),
        (
            lambda saved: {**saved, "state": {**saved["state"], "extra": torch.zeros(1)}},
            "weights that do not fit .*: 1, the first: extra is unknown",
        ),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    torch.save(change(contents(Encoder(**TINY))), path)
    assert re.match(message, refusal(path))


def test_a_file_that_is_cut_short_or_missing_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    assert refusal(path) == "No such file or directory"
    save_encoder(Encoder(**TINY), path)
    path.write_bytes(path.read_bytes()[:100_000])
    assert refusal(path) == "damaged, or not a file that torch.save wrote"


def with_weight(change: Callable[[torch.Tensor], torch.Tensor], name: str) -> Callable[..., Any]:
    return lambda saved: {**saved, "state": {**saved["state"], name: change(saved["state"][name])}}


def with_sizes(**sizes: Any) -> Callable[..., Any]:
    return lambda saved: {**saved, "architecture": {**saved["architecture"], **sizes}}


MATRIX, COUNT = "temporal.attend.0.merge.weight", "temporal.features.norm.num_batches_tracked"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_sizes(dim=2**20), r"weights that do not fit .* the first: temporal\.embed"),
        (with_sizes(layers=10**9), "its architecture cannot be built: more than 1000 layers or"),
        (with_sizes(parents=(0,) * 10**5), "its architecture cannot be built: more than 1000 "),
        (with_sizes(dim=10**30), "its architecture cannot be built: "),
        (
            with_weight(torch.Tensor.to_sparse, MATRIX),
            f".*: 1, the first: {MATRIX} is a nested or ",
        ),
        (
            with_weight(lambda array: torch.nested.nested_tensor([array]), MATRIX),
            f".*: 1, the first: {MATRIX} is a nested or sparse tensor",
        ),
        (
            with_weight(
                lambda array: torch.quantize_per_tensor(array, 0.1, 0, torch.qint8), MATRIX
            ),
            f".*: 1, the first: {MATRIX} is torch.qint8, not torch.float32",
        ),
        (with_weight(torch.Tensor.cfloat, MATRIX), ".* is torch.complex64, not torch.float32"),
        (with_weight(torch.Tensor.int, MATRIX), ".* is torch.int32, not torch.float32"),
        (with_weight(torch.Tensor.bool, COUNT), ".* is torch.bool, not torch.int64"),
        (
            with_weight(lambda array: array[:1, :1].clone().expand_as(array), MATRIX),
            ".* has fewer numbers than its shape",
        ),
        (
            with_weight(torch.Tensor.neg, "spatial.features.norm.running_var"),
            "spatial.features.norm.running_var has negative variances",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's, of kinds of tensors that it is to give up
def test_weights_of_another_kind_or_size_are_refused_before_they_are_built(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    torch.save(change(contents(Encoder(**TINY))), path)
    assert re.match(message, refusal(path))


def test_weights_of_another_precision_are_taken(tmp_path: Path) -> None:
    path, encoder = tmp_path / "run.pt", Encoder(**TINY)
    torch.save(contents(encoder.double()), path)
    assert load_encoder(path).state_dict()[MATRIX].dtype == torch.float32


def test_a_changed_byte_gives_no_other_weights(tmp_path: Path) -> None:
    path, encoder = tmp_path / "run.pt", Encoder(**{**TINY, "width": 4, "dim": 4})
    save_encoder(encoder, path)
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), len(whole) // 200):
        changed = bytearray(whole)
        changed[position] ^= 0b10000001
        path.write_bytes(changed)
        try:
            state = load_encoder(path).state_dict()
        except UserError:
            refused += 1
            continue
        for name, array in encoder.state_dict().items():
            assert torch.equal(state[name], array)
    assert refused > 100


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.999])
def test_weights_that_cannot_be_written_whole_leave_those_that_were_there(
    part: float, tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    save_encoder(Encoder(**TINY), path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * len(before)), limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_encoder(Encoder(**TINY), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_loaded(
    value: float, tmp_path: Path
) -> None:
    path, encoder = tmp_path / "run.pt", Encoder(**TINY)
    encoder.spatial.features.norm.get_buffer("running_var")[3] = value
    with pytest.raises(
        UserError, match=r"run\.pt: not written: spatial\.features\.norm\.running_var"
    ):
        save_encoder(encoder, path)
    assert not list(tmp_path.iterdir())
    torch.save(contents(encoder), path)
    assert refusal(path).startswith("spatial.features.norm.running_var has values that are not fin")
