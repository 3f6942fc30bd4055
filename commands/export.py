"""Write a run's encoder for other programs: safetensors, and ONNX with a free number of clips.

Both files say in their metadata what network it is (`architecture`) and how input is prepared
(`preparation`), as JSON. docs/exporting.md says how to prepare it in any language. The ONNX file is
compared with the encoder by ONNX Runtime before it is kept. Needs the run's weights alone, and the
packages of `pip install '.[export]'`.

    python -m commands.export ntu60-xsub    # data/exported/ntu60-xsub.safetensors and .onnx
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiment import artifacts
from experiment.parameters import params
from experiment.parameters.schema import Params, Run
from experiment.running import inputs
from experiment.workflow import console
from learning.probing.features import evaluation_view
from learning.training.device_clips import DeviceClips
from model.exchange import portable
from model.network.encoder import Encoder
from skeletons import formats, sensors
from skeletons.clips.layout import Layout
from skeletons.preparing.normalise import choose_bodies, normalise

EXAMPLE_FRAMES = 20
SHOWN = 8  # features of the example


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m commands.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="a run of params.yaml")
    parser.add_argument("--to", type=Path, default=artifacts.EXPORTED, help="folder of the files")
    given = parser.parse_args()
    console.say(f"export {given.run}", lambda: written(given.run, given.to))


def written(run: str, folder: Path) -> str:
    """Write the files of a run into `folder`; return what to say of them."""
    p = params.read()
    described = p.runs[run]
    encoder = inputs.pretrained(p, run, sensors.layout(**p.datasets[described.dataset].sensor))
    metadata = {"preparation": json.dumps(preparation(p, described, encoder))}
    tensors, graph = (folder / f"{run}.{suffix}" for suffix in ("safetensors", "onnx"))
    portable.save_safetensors(encoder, tensors, metadata)
    apart = portable.save_onnx(encoder, graph, metadata)
    return f"{tensors}\n{graph}: within {apart:.0e} of the encoder by ONNX Runtime"


def preparation(p: Params, run: Run, encoder: Encoder) -> dict[str, Any]:
    """The preparation of input for the run's encoder, and features to check it against."""
    dataset = p.datasets[run.dataset]
    layout, rule = sensors.layout(**dataset.sensor), formats.load(dataset.format).BODIES
    bodies = choose_bodies(example(layout), rule, layout.bodies)
    clips = DeviceClips.unlabelled([normalise(bodies, layout, dataset.normal_form)], layout)
    view = evaluation_view(
        clips,
        torch.arange(1),
        size=encoder.architecture["frames"],
        stream=run.stream,
        centre_crop=p.embed.centre_crop,
    )
    with torch.no_grad():
        features = encoder.represent(view)[0, :SHOWN].tolist()
    return {
        "unit": "metres",
        "input": "(clips, x y z, frames, joints, bodies) float32",
        "output": "(clips, features) float32: the temporal vector, then the spatial one",
        "normal_form": dataset.normal_form,
        "layout": layout.carried(),
        "bodies": rule,
        "max_frames": p.prepare.max_frames,
        "centre_crop": p.embed.centre_crop,
        "frames": encoder.architecture["frames"],
        "stream": run.stream,
        "features_of_the_example": [round(feature, 5) for feature in features],
    }


def example(layout: Layout) -> NDArray[np.float64]:
    """The clip of docs/exporting.md that any language can make: one body (1, T, V, 3)."""
    t, v = np.arange(EXAMPLE_FRAMES)[:, None], np.arange(layout.joints)
    x, y = np.sin(v + t / 10) / 2, np.cos(2 * v - t / 10) / 2
    return np.stack([x, y, 3 + np.sin(3 * v + t / 5) / 5], axis=-1)[None]


if __name__ == "__main__":
    main()
