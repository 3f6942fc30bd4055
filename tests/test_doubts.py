"""What `prepare` says cannot be right: each fault planted in people of every kind, none in any."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_summary import REPORT, people, write

from skeletons import sensors
from skeletons.archives.recordings import Source
from skeletons.clips.layout import Layout
from skeletons.formats import plan
from skeletons.preparing import summary
from skeletons.preparing.job import BrokenClips, Job, prepare
from skeletons.preparing.make_clips import Recipe, Window, make_clips
from skeletons.preparing.normalise import normalise

REAL = Path(__file__).parents[2] / "shared" / "real"
V1 = sensors.layout("kinect-v1")
V2 = sensors.layout("kinect-v2", released=True)
ORDER = [3, 2, 1, 0, *range(4, 20)]  # of UTD-MHAD's joints in kinect-v1, and of these in UTD-MHAD
UPPER = Layout(  # NuiSI's ten
    name="upper",
    joints=10,
    bodies=2,
    bones=((0, 1), (1, 2), (2, 3), (4, 1), (5, 4), (6, 5), (7, 1), (8, 7), (9, 8)),
    swap=(0, 1, 2, 3, 7, 8, 9, 4, 5, 6),
    centre=2,
    up=(3, 1),
    across=(4, 7),
    names=(
        *("head", "neck", "chest", "waist", "left shoulder", "left elbow", "left hand"),
        *("right shoulder", "right elbow", "right hand"),
    ),
)


def matlab(data: bytes) -> np.ndarray:
    """The one array of a MATLAB 5 file, whose last element has its numbers."""
    kind, size = struct.unpack("<II", data[128:136])
    assert kind == 15  # compressed
    data = zlib.decompress(data[136 : 136 + size])
    joints, axes, frames = struct.unpack("<3i", data[32:44])
    numbers = np.frombuffer(data[-8 * joints * axes * frames :])
    return numbers.reshape(frames, axes, joints).swapaxes(1, 2)


def recordings(name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The clips of a real dataset that has no format: (frames, bodies, joints, 3) metres."""
    (path,) = (REAL / name).iterdir()
    if name == "nuisi":
        for side in ("train", "test"):
            with np.load(path, allow_pickle=True) as arrays:
                for number, clip in enumerate(arrays[f"{side}_data"]):
                    yield f"{side}-{number:03}", clip.reshape(len(clip), 2, 10, 3)
        return
    with zipfile.ZipFile(path) as files:
        for member in sorted(files.namelist()):
            data = files.read(member)
            if member.endswith(".mat"):
                yield Path(member).stem, matlab(data)[:, None, ORDER]
            elif name == "florence3d" and member.endswith(".txt"):
                yield Path(member).stem, np.loadtxt(io.BytesIO(data)).reshape(-1, 1, 15, 3) / 1000


SENSORS = {
    "utdmhad": V1,
    "florence3d": sensors.layout("openni-15"),
    "nuisi": UPPER,
    "nwucla": V1,
    "utkinect": V1,
    "msraction3d": V1,
    "ntu": V2,
    "pku": V2,
}


@pytest.fixture(scope="module", params=["people", *SENSORS])
def real(request, tmp_path_factory):
    """A layout and clips of people, or of a real dataset: at most 150, by their names."""
    name = request.param
    if name == "people":
        clips = {f"c{i:02}": clip[:, :1] for i, clip in enumerate(people(V1, clips=24))}
        return V1, {key: clip + np.array([0.1, 0.2, 3]) for key, clip in clips.items()}
    if not (REAL / name).exists():
        pytest.skip(f"no {REAL / name}")
    layout = SENSORS[name]
    if name in ("utdmhad", "florence3d", "nuisi"):
        found = list(recordings(name))
    else:
        labels = []
        if name == "utkinect":
            labels = list((REAL / name).iterdir())
        elif name == "pku":
            labels = [tmp_path_factory.mktemp("labels")]
            lines = [f"{i + 1},{i * 100},{i * 100 + 90},1\n" for i in range(9)]
            (labels[0] / "A10N08-L.txt").write_text("".join(lines))
        archives = [REAL / name] if name in ("ntu", "pku") else list((REAL / name).iterdir())
        source = Source(archives, 60, labels, options={"interval": "half_open"})
        made = [
            window
            for each in plan(name, source)[0]
            for window in make_clips(each, Recipe(name, layout, 60))
        ]
        found = [(w.clip.name, w.bodies.swapaxes(0, 1)) for w in made if isinstance(w, Window)]
    return layout, dict(found[:: -(-len(found) // 150)])


def said(folder, layout, clips, absent=()):
    """The warnings about clips (T, M, V, 3) once they are in normal form."""
    form = "released" if layout == V2 else "upright"
    made = [normalise(clip.swapaxes(0, 1).astype(float), layout, form) for clip in clips.values()]
    lacking = layout.bodies - made[0].shape[1]
    made = [np.pad(clip, ((0, 0), (0, lacking), (0, 0), (0, 0))) for clip in made]
    path = write(folder, layout, made, names=list(clips))
    measures = summary.measure(path, layout, absent)
    found = summary.summarise(path, REPORT._replace(absent_joints=absent), measures)
    return list(summary.warnings(found, measures, layout))


def of_all(clips):
    """A line's end about these clips."""
    names = list(clips)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"in {len(names)} of {len(names)} clips: {', '.join(names[:5])}{more}"


def test_of_people_nothing_is_said(real, tmp_path):
    assert said(tmp_path / "s", *real) == []


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (lambda clip: clip * (-1, 1, 1), r"mirrored, with the feet or hands behind the body, in "),
        (lambda clip: clip * (1, 1, 0), r"bodies are flat, as in 2D, in "),
        (
            lambda clip: clip[:, :, ::-1],
            r"bones .*; is [-\w]+ the sensor, and archives.joints the ",
        ),
        (
            lambda clip: clip * 1000,
            r"a body is .* m high, .*: divide by 1,000 \(archives.unit: mm\)",
        ),
        (lambda clip: clip * 100, r"a body is .* m high, .*: divide by 100 \(archives.unit: cm\)"),
        (lambda clip: clip / 1000, r"a body is .* m high, .*: multiply by 1,000 \(archives.unit\)"),
    ],
    ids=["mirrored", "flat", "joints", "mm", "cm", "km"],
)
def test_a_fault_of_all_clips_is_said(real, tmp_path, fault, line):
    layout, clips = real
    lines = said(tmp_path / "s", layout, {name: fault(clip) for name, clip in clips.items()})
    assert any(re.match(line, found) for found in lines)
    if "flat" in line:
        assert lines[-1] == f"bodies are flat, as in 2D, {of_all(clips)}"


def test_a_sensor_whose_up_is_down_is_said(real, tmp_path):
    layout, clips = real
    if layout != V2:
        lines = said(tmp_path / "s", replace(layout, up=layout.up[::-1]), clips)
        assert lines[0].startswith("the head is below the feet or the hips in ")


def test_people_whom_the_released_rule_tips_are_named(real, tmp_path):
    """It expects people who face the sensor; of the others, some are tipped by a wide angle."""
    layout, clips = real
    lines = said(tmp_path / "s", layout, {name: clip * (-1, 1, -1) for name, clip in clips.items()})
    tipped = "in 2 of 9 clips: A10N08-L-005, A10N08-L-006"
    assert lines == [
        f"the trunk is more than 60 degrees off the vertical {tipped}; set normal_form: upright, "
        "or archives.axes to those of a Kinect"
    ] * (layout == V2 and len(clips) == 9)


def test_clips_whose_bodies_lie_are_named(tmp_path):
    clips = list(people(V1, clips=9))
    clips[3:5] = [clip[..., [0, 2, 1]] * (1, -1, 1) for clip in clips[3:5]]
    path = write(tmp_path / "s", V1, clips)
    measures = summary.measure(path, V1)
    (line,) = summary.warnings(summary.summarise(path, REPORT, measures), measures, V1)
    assert line.startswith("the trunk is more than 60 degrees off the vertical in 2 of 9 clips: ")
    assert "clips: c0003, c0004; set normal_form: upright" in line


def test_absent_joints_are_named_and_no_other_doubt_comes_of_them(real, tmp_path):
    layout, clips = real
    absent = tuple(joint for joint, name in enumerate(layout.names) if name.endswith("hand"))
    for clip in (clips := {name: clip.copy() for name, clip in clips.items()}).values():
        clip[:, :, absent] = 0
    assert said(tmp_path / "s", layout, clips, absent) == [
        "absent, zero in every clip, and left out of heights and bones: left hand, right hand"
    ]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            lambda clip: clip[:, :, ::-1],
            r"bones are unlike the other clips', as of joints in another order, in ",
        ),
        (lambda clip: clip * 10, r"bodies are [\d.]+ times as large as in the other clips in "),
        (lambda clip: clip * (1, 1, 0), r"bodies are flat, as in 2D, in "),
    ],
    ids=["joints", "size", "flat"],
)
def test_single_clips_unlike_the_others_are_named(real, tmp_path, fault, line):
    layout, clips = real
    some = list(clips)[1 :: len(clips) // (3 if len(clips) > 9 else 1)]
    faulty = clips | {name: fault(clips[name]) for name in some}
    lines = said(tmp_path / "s", layout, faulty)
    those = f"{len(some)} of {len(clips)} clips: {', '.join(some)}"
    assert [re.match(line, found) and found[-len(those) :] for found in lines] == [those]


@pytest.mark.skipif(not (REAL / "utdmhad").exists(), reason="no UTD-MHAD")
def test_utd_mhad_without_its_order_of_joints_is_said(tmp_path):
    clips = dict([*recordings("utdmhad")][::9])
    lines = said(tmp_path / "s", V1, {name: clip[:, :, ORDER] for name, clip in clips.items()})
    assert "left hip to hip centre 0.67, not 0.0" in lines[0]
    assert lines[1].startswith(f"the head is below the feet or the hips {of_all(clips)};")


def arrays(folder, clips):
    """These clips (T, V, 3) as a dataset of arrays in kinect-v1's joints."""
    folder.mkdir()
    rows = "".join(f"c{number},0\n" for number in range(len(clips)))
    (folder / "clips.csv").write_text(f"file,label\n{rows}")
    for number, clip in enumerate(clips):
        np.save(folder / f"c{number}.npy", clip)
    return Job(Recipe("arrays", V1, 1), [folder])


def test_millimetres_that_are_refused_are_one_line_with_the_factor(tmp_path):
    job = arrays(tmp_path / "mm", [(clip[:, 0] + (0, 0, 3)) * 1000 for clip in people(V1)])
    with pytest.raises(BrokenClips) as error:
        prepare(tmp_path / "s.zarr", job, scratch=tmp_path / "scratch", workers=1)
    _, line = str(error.value).splitlines()
    assert line.startswith("  c0: ")
    assert line.endswith("divide by 1,000 (archives.unit: mm); 5 more like it")


@pytest.mark.parametrize("origin", ["spine", "right shoulder"])
def test_a_joint_that_is_the_origin_is_not_absent(tmp_path, origin):
    joint = V1.names.index(origin)
    clips = [clip[:, 0] - clip[:, 0, [joint]] for clip in people(V1)]
    job = arrays(tmp_path / "relative", clips)
    report = prepare(tmp_path / "s.zarr", job, scratch=tmp_path / "scratch", workers=1)
    assert report.absent_joints == ()
