"""Weights files: an encoder comes back as it was, and anything else is refused in one line."""

import argparse
import pickle
import re
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
    """What a weights file of `encoder` holds."""
    return {"architecture": encoder.architecture, "state": encoder.state_dict(), "notes": {}}


def refusal(path: Path) -> str:
    """What is said of a file, less its path."""
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
