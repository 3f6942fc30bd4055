"""Write synthetic archives in a dataset's own format: data/synthetic/<dataset>/.

The folder of a dataset whose source is not `synthetic` has a line that says so and stays the same,
so that a synthetic parameter makes nothing of real archives run again.
"""

import shutil

from experiment import artifacts
from experiment.parameters import params
from experiment.workflow import console
from skeletons import sensors, synthetic


def main(dataset: str) -> str:
    p = params.read()
    folder = artifacts.SYNTHETIC / dataset
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if p.sources[dataset] != "synthetic":
        # DVC warns of an empty folder, at every stage
        (folder / "none.txt").write_text("This dataset's archives are real.\n")
        return f"{folder}: none, {dataset} comes from {p.sources[dataset]}"
    entry, settings = p.datasets[dataset], p.synthetic
    generator, layout = synthetic.load(entry.format), sensors.layout(**entry.sensor)
    session = synthetic.Session(
        seed=settings.seed,
        actions=settings.actions,
        subjects=settings.subjects,
        cameras=settings.cameras,
        frames=(settings.frames[0], settings.frames[1]),
        noise=settings.noise,
    )
    takes = generator.generate(
        layout,
        session,
        **dict(getattr(settings, entry.format)),
        progress=console.bar(f"synthetic {dataset}", " files"),
    )
    archives = entry.archives
    generator.write(
        folder,
        layout,
        takes,
        skeletons=archives.skeletons,
        labels=archives.labels,
        splits=archives.splits,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{folder}: {size / 1e6:.1f} MB"


if __name__ == "__main__":
    console.run(main)
