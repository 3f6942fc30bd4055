"""Bring the weights that a run takes instead of pretraining: to data/linked/<run>/ a link to the
file, by which DVC sees that it changes, to data/given/<run>/ its encoder in this project's form.
"""

import os
import shutil
from pathlib import Path

from errors import UserError
from experiment import artifacts
from experiment.parameters import params
from experiment.parameters.schema import Params
from experiment.workflow import console, dvc_process


def main(run: str) -> str:
    p = params.read()
    source = p.runs[run].weights
    folders = artifacts.given(run).parent, artifacts.LINKED / run
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if source is None:
            (folder / "none.txt").write_text("the run is pretrained\n")
    if source is None:
        return f"{folders[0]}: none, {run} is pretrained"
    brought = folders[1] / "checkpoint"
    if "://" not in source:
        # DVC may run this in a copy of the project.
        path = Path(os.environ.get("DVC_ROOT", ""), Path(source).expanduser()).absolute()
        brought.symlink_to(path)
    elif not dvc_process.fetch(source, brought):
        raise UserError(f"runs.{run}.weights: DVC could not get {source} (it says why above)")
    return convert(p, run, brought)


def convert(p: Params, run: str, path: Path) -> str:
    """Write the encoder of the file at `path`. Raises UserError if it is none, or one of
    another layout, dataset, protocol or stream than the run's.
    """
    from model.exchange.released import load_released
    from model.network import weights
    from model.network.encoder import load_encoder, save_encoder
    from skeletons import sensors

    described, target, source = p.runs[run], artifacts.given(run), p.runs[run].weights
    layout = sensors.layout(**p.datasets[described.dataset].sensor)
    try:
        if "state_dict" in weights.read(path):
            encoder = load_released(path, parents=layout.parents, heads=p.encoder.heads)
        else:
            encoder = load_encoder(path)
        encoder.check_layout(parents=layout.parents, bodies=layout.bodies)
    except UserError as error:  # with the path that the user knows
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"runs.{run}.weights: {source}: {reason}") from None
    except ValueError as error:
        raise UserError(f"runs.{run}.weights: {source}: encoder.heads: {error}") from None
    for name, value in described.noted.items():
        if (noted := encoder.notes.get(name, value)) != value:
            raise UserError(
                f"runs.{run}.weights: {source}: its {name} is {noted}, that of {run} is {value}"
            )
    save_encoder(encoder, target, **encoder.notes | {"from": source})
    return f"{target}: an encoder of {len(layout.parents)} joints from {source}"


if __name__ == "__main__":
    console.run(main)
