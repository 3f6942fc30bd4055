"""Exported encoders give the encoder's features, of input that docs/exporting.md prepares."""

import importlib
import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from clone import ROOT, TINY, update
from layouts import KINECT_V2
from numpy.typing import NDArray

from commands import export as command
from errors import UserError
from learning.probing.features import evaluation_view
from learning.training.device_clips import DeviceClips
from learning.training.settings import STREAMS
from model.exchange import portable
from model.network.encoder import Encoder, load_encoder, save_encoder
from skeletons import sensors
from skeletons.clips.layout import Layout
from skeletons.preparing.normalise import NORMAL_FORMS, choose_bodies, normalise

RUN = "ntu60-xsub"
PAGE = (ROOT / "docs/exporting.md").read_text()
SMALL = {"frames": 8, "width": 4, "dim": 8, "heads": 2}


def encoder() -> Encoder:
    """A small encoder whose statistics are not those of the start."""
    torch.manual_seed(0)
    small = Encoder(parents=KINECT_V2.parents, **SMALL)
    small(torch.randn(4, 3, SMALL["frames"], 25, 2))
    return small.eval()


def ours(
    bodies: NDArray[np.float64], layout: Layout, normal_form: str, **view: Any
) -> NDArray[np.float32]:
    clips = DeviceClips.unlabelled([normalise(bodies, layout, normal_form)], layout)
    found = evaluation_view(clips, torch.arange(1), **view)
    return found[0].numpy()


# ---- The page ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepare() -> Callable[..., Any]:
    """The function of the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["prepare"]


def layout_of(form: str, sensor: str) -> Layout:
    return sensors.layout(sensor, released=form == "released")


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("form", "sensor"),
    [
        *(("released", sensor) for sensor in ("kinect-v1", "kinect-v2")),
        *(("upright", sensor) for sensor in ("kinect-v1", "kinect-v2", "mediapipe")),
    ],
)
def test_the_page_prepares_input_as_we_do(
    prepare: Callable[..., Any], form: str, sensor: str, stream: str
) -> None:
    random, layout = np.random.default_rng(0), layout_of(form, sensor)
    for absent in ([], [0, 1], [3], [9, 10], [0, 5, 10]):
        bodies = random.normal(size=(layout.bodies, 11, layout.joints, 3))
        bodies[:, absent] = 0
        bodies[:, :, 4] *= len(absent) % 2  # a joint that is absent in all frames
        bodies[:, 4, layout.centre] = 0
        described = json.loads(json.dumps(layout.carried()))
        theirs = prepare(bodies, described, 7, 0.9, stream, form)
        expected = ours(bodies, layout, form, size=7, stream=stream, centre_crop=0.9)
        np.testing.assert_allclose(theirs, expected, atol=2e-5)


def test_the_numbers_of_the_page_are_those_of_its_clip() -> None:
    bodies = choose_bodies(command.example(KINECT_V2), "energy", KINECT_V2.bodies)
    (header,) = re.findall(r"^\| normal form, stream (.*)\|$", PAGE, re.MULTILINE)
    places = [tuple(map(int, place.split(","))) for place in header.split("|") if place.strip()]
    for form, stream in itertools.product(NORMAL_FORMS, STREAMS):
        (row,) = re.findall(rf"^\| {form}, {stream} \| (.*) \|$", PAGE, re.MULTILINE)
        layout = layout_of(form, "kinect-v2")
        found = ours(bodies, layout, form, size=16, stream=stream, centre_crop=0.95)
        assert [f"{found[place]:.4f}" for place in places] == row.split(" | ")


# ---- The files -----------------------------------------------------------------------------------


def test_safetensors_are_the_encoder_again(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path, saved = tmp_path / "a/run.safetensors", encoder()
    portable.save_safetensors(saved, path, {"preparation": "{}"})
    loaded = portable.load_safetensors(path)
    assert loaded.architecture == saved.architecture
    assert not loaded.training
    for name, array in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], array)
    assert list(path.parent.iterdir()) == [path]


def test_the_same_encoder_gives_the_same_safetensors(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    saved = encoder()
    found = set()
    for _ in range(8):
        portable.save_safetensors(saved, tmp_path / "x", {"preparation": "{}"})
        found.add((tmp_path / "x").read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("data", [b"", b"text", b"\x08\0\0\0\0\0\0\0{}      ", None])
def test_other_files_are_refused_in_a_line(tmp_path: Path, data: bytes | None) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as refused:
        portable.load_safetensors(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "architecture",
    ["[]", "3", "null", "{}", "[" * 10**5, '{"dim": "a"}', '{"heads": 0}', '{"layers": 1e99}'],
)
def test_an_architecture_that_cannot_be_is_refused_in_a_line(
    architecture: str, tmp_path: Path
) -> None:
    pytest.importorskip("safetensors")
    path, saved = tmp_path / "x.safetensors", encoder()
    if architecture.startswith('{"'):
        architecture = json.dumps({**saved.architecture, **json.loads(architecture)})
    portable.save_safetensors(saved, path, {"architecture": architecture})
    with pytest.raises(UserError) as refused:
        portable.load_safetensors(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.documents("python -m commands.export ntu60-xsub")
def test_a_run_is_exported_with_its_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[..., Any]
) -> None:
    """Both files, compared with the encoder: any number of clips, prepared as the page says."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    update(values, TINY)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    Path("data/weights").mkdir(parents=True)
    save_encoder(encoder(), Path(f"data/weights/{RUN}.pt"))

    said = command.written(RUN, Path("out"))
    assert re.search(r"out/ntu60-xsub\.onnx: within \de-0\d of the encoder by ONNX Runtime$", said)
    assert {path.name for path in Path("out").iterdir()} == {f"{RUN}.onnx", f"{RUN}.safetensors"}
    session = runtime.InferenceSession(f"out/{RUN}.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    architecture, preparation = (json.loads(metadata[k]) for k in ("architecture", "preparation"))
    loaded = portable.load_safetensors(f"out/{RUN}.safetensors")
    assert {**architecture, "parents": tuple(architecture["parents"])} == loaded.architecture
    assert str(tmp_path).encode() not in Path(f"out/{RUN}.onnx").read_bytes()
    assert str(ROOT).encode() not in Path(f"out/{RUN}.onnx").read_bytes()

    for batch in (1, 2, 7):
        clips = torch.randn(batch, 3, SMALL["frames"], 25, 2)
        clips[1:, ..., 1] = 0
        with torch.no_grad():
            expected = load_encoder(f"data/weights/{RUN}.pt").represent(clips)
        (features,) = session.run(["features"], {"clips": clips.numpy()})
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)

    one = command.example(KINECT_V2)
    clip = prepare(
        [one[0], np.zeros_like(one[0])],
        *(
            preparation[name]
            for name in ("layout", "frames", "centre_crop", "stream", "normal_form")
        ),
    )
    (features,) = session.run(["features"], {"clips": np.array([clip], np.float32)})
    np.testing.assert_allclose(features[0, :8], preparation["features_of_the_example"], atol=1e-4)


def test_a_graph_that_gives_other_features_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    shape = [3, SMALL["frames"], 25, 2]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *size])
        for name, size in (("clips", shape), ("features", [16]))
    ]
    nodes = [
        onnx.helper.make_node("Flatten", ["clips"], ["flat"]),
        onnx.helper.make_node("Slice", ["flat", "start", "end", "axis"], ["features"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([number]), name)
        for name, number in (("start", 0), ("end", 16), ("axis", 1))
    ]
    graph = onnx.helper.make_graph(nodes, "other", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    model.ir_version = 10
    monkeypatch.setattr(portable, "_graph", lambda *_: model)
    with pytest.raises(UserError, match=r"x\.onnx: not written: its features differ by \d"):
        portable.save_onnx(encoder(), tmp_path / "x.onnx", {})
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", fails)
    said = r" is not installed: pip install '\.\[export\]'$"
    with pytest.raises(UserError, match=f"^safetensors{said}"):
        portable.save_safetensors(encoder(), tmp_path / "x", {})
    with pytest.raises(UserError, match=f"^onnx{said}"):
        portable.save_onnx(encoder(), tmp_path / "x", {})
    assert not list(tmp_path.iterdir())
