"""An archive of NW-UCLA with a few random clips, for tests of what comes after reading."""

import itertools
import json
import zipfile
from pathlib import Path

import numpy as np
from layouts import KINECT_V1

from skeletons.synthetic.figure import Figure


def write(path: Path) -> None:
    """Write 72 clips of a shaking body: 3 actions, 4 people, 2 executions and 3 views, up to 16
    frames each, one of them of a single frame."""
    rng, figure = np.random.default_rng(0), Figure(KINECT_V1)
    pose = figure.place(np.zeros((1, KINECT_V1.joints, 3)), figure.bones) + np.array((0, 0, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        keys = itertools.product(range(1, 4), range(1, 5), range(1, 3), range(1, 4))
        for number, key in enumerate(keys):
            name = "a{:02}_s{:02}_e{:02}_v{:02}".format(*key)
            frames = 1 if number == 11 else int(rng.integers(12, 17))
            body = pose + rng.normal(0, 0.05, (frames, KINECT_V1.joints, 3))
            fields = {"file_name": name, "skeletons": body.round(6).tolist(), "label": key[0]}
            file.writestr(f"all_sqe/{name}.json", json.dumps(fields))
