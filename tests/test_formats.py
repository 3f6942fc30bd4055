"""A format is one module that reads archives; generators write what it reads."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from skeletons import formats, synthetic
from skeletons.archives import archive
from skeletons.archives.archive import Member
from skeletons.archives.recordings import BrokenClip, Clip, Recording
from skeletons.formats import Format
from skeletons.sensors import LAYOUTS
from skeletons.synthetic import Generator

COMMON = {"seed": 0, "actions": 10, "subjects": 2, "cameras": 2, "frames": (8, 12), "noise": 0.01}
# Of the formats whose sensor is not Kinect v2.
SENSORS = dict.fromkeys(("nwucla", "utkinect", "msraction3d"), "kinect-v1")


def arguments(function) -> dict[str, inspect.Parameter]:
    return {
        name: parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "counts")
    }


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_format_offers_what_all_do(name):
    module = formats.load(name)
    assert module.BODIES in formats.RULES
    for function in ("plan", "read"):
        assert arguments(getattr(module, function)) == arguments(getattr(Format, function))


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_a_generator_offers_what_all_do(name):
    module = synthetic.load(name)
    assert module.COUNTS
    assert all(module.COUNTS.values())
    assert arguments(module.write) == arguments(Generator.write)
    own = arguments(module.generate)
    assert own.keys() - arguments(Generator.generate).keys() == set(module.COUNTS)
    assert arguments(Generator.generate).items() <= own.items()


@pytest.mark.parametrize("name", synthetic.NAMES)
def test_a_format_reads_what_its_generator_writes(name, tmp_path):
    module, generator = formats.load(name), synthetic.load(name)
    layout = LAYOUTS[SENSORS.get(name, "kinect-v2")]
    files: list[str] = []

    def progress(keys):
        files.extend(map(str, keys))
        return keys

    names = {"skeletons": ["a.zip", "b.zip/in/side"], "labels": ["l.zip"], "splits": ["view.txt"]}
    counts = dict.fromkeys(generator.COUNTS, 2)
    made = generator.generate(layout, progress=progress, **COMMON, **counts)
    generator.write(tmp_path, layout, made, **names)
    skeletons, labels = (
        [tmp_path / name for name in names[key]] for key in ("skeletons", "labels")
    )
    has_labels = labels[0].exists()
    recordings, broken = module.plan(
        skeletons, labels if has_labels else [], classes=10, interval="half_open"
    )
    assert not broken
    assert len(recordings) == len(files) > 1
    for recording in recordings:
        read = list(
            module.read(
                archive.read(recording.member),
                recording,
                layout=layout,
                classes=10,
            )
        )
        assert [clip.name for clip, _ in read] == [clip.name for clip in recording.clips]
        for clip, bodies in read:
            assert isinstance(bodies, np.ndarray), bodies
            assert bodies.shape[2:] == (layout.joints, 3)
            assert 1 <= len(bodies) <= layout.bodies
            assert 1 <= bodies.shape[1] <= 12
            assert 0 <= clip.label < 10


@pytest.mark.parametrize("name", formats.NAMES)
@pytest.mark.parametrize("data", [b"", b"\n", b"7", b"[[[]]]", b"\xff\x00", b"nan " * 999])
def test_bytes_of_no_format_are_a_broken_clip(name, data):
    layout = LAYOUTS[SENSORS.get(name, "kinect-v2")]
    module = formats.load(name)
    clip = Clip("clip", 0, rows=(0, 1))
    recording = Recording(Member("x.zip", "clip", len(data), 0), (clip,))
    ((read, outcome),) = module.read(data, recording, layout=layout, classes=10)
    assert read == clip
    assert isinstance(outcome, BrokenClip)


def test_the_formats_are_the_modules_of_the_folder():
    folder = Path(formats.__file__).parent
    assert set(formats.NAMES) == {path.stem for path in folder.glob("[!_]*.py")}
    with pytest.raises(ValueError, match=f"unknown format 'bvh': there are {formats.NAMES[0]}, "):
        formats.load("bvh")
