"""Real datasets, brought and prepared by the stages as a user would."""

from pathlib import Path

import pytest
import yaml
from clone import LINKED, ROOT

from experiment.parameters import presets
from skeletons.clips import store
from skeletons.clips.store import Clips
from stages import prepare, raw

REAL = ROOT.parent / "shared" / "real"


def prepared(name: str, folder: Path) -> tuple[Clips, dict[str, dict]]:
    """The store of a real dataset and the rules of its protocols; skips where there is none.

    `folder` becomes a project with `presets/real.yaml`, which needs all clips of the dataset.
    """
    if not (REAL / name).exists():
        pytest.skip(f"no {REAL / name}")
    p = presets.values("real")
    p["sources"] = dict.fromkeys(p["sources"], str(REAL / name))
    p["prepare"]["require_complete"] = True
    (folder / "params.yaml").write_text(yaml.safe_dump(p))
    for linked in LINKED:
        (folder / linked).symlink_to(ROOT / linked)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("DVC_ROOT", raising=False)
        raw.main(name)
        prepare.main(name)
    described = yaml.safe_load((ROOT / f"datasets/{name}.yaml").read_text())
    return store.read(folder / f"data/{name}.zarr"), described["protocols"]
