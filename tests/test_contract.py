"""What a format module yields is checked; each fault names the module, the clip and the file."""

import contextlib
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from errors import UserError
from skeletons import formats
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import BrokenClip, Clip, Recording
from skeletons.preparing.job import BrokenClips, Dataset, prepare
from skeletons.sensors import KINECT_V1

GOOD = np.random.default_rng(0).normal(size=(1, 4, 20, 3))


def changed(index, value):
    bodies = GOOD.copy()
    bodies[index] = value
    return bodies


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A format module `mine` of the clips a, b and c, and a function that prepares by it."""

    def plan(skeletons, labels, *, classes, interval):
        return [recording(name) for name in "abc"], []

    def read(data, recording, *, layout, classes):
        yield recording.clips[0], GOOD

    def recording(*names):
        member = Member(str(tmp_path), "x.txt", 1, 0)
        return Recording(member._replace(name=f"{names[0]}.txt"), tuple(Clip(n, 0) for n in names))

    def run():
        dataset = Dataset("mine", KINECT_V1, 2, skeletons=[tmp_path])
        return prepare(tmp_path / "out.zarr", dataset, scratch=tmp_path / "scratch")

    for name in "abc":
        (tmp_path / f"{name}.txt").write_bytes(b"x")
    mine = SimpleNamespace(BODIES="file", plan=plan, read=read, recording=recording, run=run)
    monkeypatch.setattr(formats, "NAMES", (*formats.NAMES, "mine"))
    monkeypatch.setitem(sys.modules, "skeletons.formats.mine", mine)
    # in this process, whose module it is
    here = contextlib.nullcontext((ThreadPoolExecutor(1), 2))
    monkeypatch.setattr("skeletons.preparing.job.start_workers", lambda *_: here)
    return mine


def test_clips_as_demanded_are_taken(module):
    report = module.run()
    assert (report.clips, report.frames) == (3, 12)


CLIP_FAULTS = {
    "joints": (GOOD[:, :, :15], r"its shape is \(1, 4, 15, 3\), not \(bodies, frames, 20, 3\)"),
    "axes exchanged": (GOOD.swapaxes(0, 1), "it has 4 bodies, where layout kinect-v1 has 1"),
    "bodies": (np.repeat(GOOD, 3, 0), "it has 3 bodies, where layout kinect-v1 has 1"),
    "no body axis": (GOOD[0], r"its shape is \(4, 20, 3\)"),
    "no body": (GOOD[:0], r"its shape is \(0, 4, 20, 3\)"),
    "0 frames": (GOOD[:, :0], "it has 0 frames"),
    "nan": (changed((0, 2, 5, 1), np.nan), "a coordinate is NaN or infinite"),
    "infinite": (changed((0, 2, 5, 1), -np.inf), "a coordinate is NaN or infinite"),
    "dtype": (GOOD.astype(np.float32), "read yields float32, not an array of float64"),
    "list": (GOOD.tolist(), "read yields list, not an array of float64"),
}


@pytest.mark.parametrize(("bodies", "message"), CLIP_FAULTS.values(), ids=CLIP_FAULTS)
def test_bodies_of_another_form_are_refused(module, bodies, message):
    def read(data, recording, *, layout, classes):
        (clip,) = recording.clips
        yield clip, bodies if clip.name == "b" else GOOD

    module.read = read
    with pytest.raises(UserError, match=rf"^format module mine: clip b of .*/b.txt: {message}"):
        module.run()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("label", 2, "its label is 2, allowed: 0 to 1"),
        ("label", -1, "its label is -1, not a whole number"),
        ("label", "1", "its label is '1', not a whole number"),
        ("subject", 1.5, r"its subject is 1\.5, not a whole number"),
        ("name", "z", "read yields it where b is due"),
    ],
)
def test_what_a_clip_says_of_itself_is_checked(module, field, value, message):
    def read(data, recording, *, layout, classes):
        (clip,) = recording.clips
        yield clip._replace(**{field: value}) if clip.name == "b" else clip, GOOD

    module.read = read
    with pytest.raises(UserError, match=rf"^format module mine: clip [bz] of .*b.txt: {message}"):
        module.run()


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "clip b of .*/b.txt: read does not yield it"), (2, "clip b of .*: read yields it, which")],
)
def test_a_clip_too_few_or_too_many_is_refused(module, number, message):
    def read(data, recording, *, layout, classes):
        (clip,) = recording.clips
        for _ in range(number if clip.name == "b" else 1):
            yield clip, GOOD

    module.read = read
    with pytest.raises(UserError, match=message):
        module.run()


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        (["a", "c", "b"], "clip b of .*/b.txt: plan gives it after c; sort by name"),
        (["ba"], "clip a of .*/b.txt: plan gives it after b; sort by name"),
        (["aa"], "clip a of .*/a.txt: plan gives it twice"),
    ],
)
def test_the_order_of_a_plan_is_checked(module, recordings, message):
    plan = [module.recording(*names) for names in recordings]
    module.plan = lambda *_, **__: (plan, [])
    with pytest.raises(UserError, match=f"^format module mine: {message}"):
        module.run()


@pytest.mark.parametrize("side", ["xsub", ("xsub",), ("xsub", 2), ("a/b", 1), ("", 1), (3, 1)])
def test_the_sides_of_a_plan_are_checked(module, side):
    one = module.recording("a")
    one = one._replace(clips=(one.clips[0]._replace(sides=(("xview", 0), side)),))
    module.plan = lambda *_, **__: ([one], [])
    with pytest.raises(UserError, match=r"^format module mine: clip a of .*/a.txt: its side .* is"):
        module.run()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ((("room", "hall"),), "{'room': 'hall'}, not whole numbers or words as those of the clips"),
        ((), "{}, not whole numbers or words"),
        ((("room", 1), ("day", 2)), "{'room': 1, 'day': 2}, not"),
        ((("room", True),), "{'room': True}, not"),
        ((("room", -1),), "{'room': -1}, not"),
    ],
)
def test_columns_are_the_same_in_every_clip(module, second, message):
    plan = [module.recording(name) for name in "ab"]
    for place, columns in enumerate(((("room", 1),), second)):
        (clip,) = plan[place].clips
        plan[place] = plan[place]._replace(clips=(clip._replace(columns=columns),))
    module.plan = lambda *_, **__: (plan, [])
    with pytest.raises(UserError) as refused:
        module.run()
    assert str(refused.value).startswith("format module mine: clip b of ")
    assert f"b.txt: its columns are {message}" in str(refused.value)


def test_a_clip_that_two_files_hold_is_the_users_to_remove(module):
    one = module.recording("a")
    other = one._replace(member=one.member._replace(name="other.txt"))
    module.plan = lambda *_, **__: ([one, other], [])
    with pytest.raises(ArchiveError, match=r"other.txt: clip a is in .*/a.txt too; remove one"):
        module.run()


def test_a_joint_farther_than_any_sensor_sees_is_a_broken_clip(module):
    far = changed((0, 2, 5), (70, 70, 20.0))

    def read(data, recording, *, layout, classes):
        (clip,) = recording.clips
        yield clip, far if clip.name == "b" else GOOD

    module.read = read
    with pytest.raises(BrokenClips, match=r"b: .*: joint 6 in frame 3 is 101 m from the sensor"):
        module.run()


def test_a_broken_clip_need_not_be_the_modules_fault(module):
    def read(data, recording, *, layout, classes):
        yield recording.clips[0], BrokenClip("torn", 3)

    module.read = read
    with pytest.raises(BrokenClips, match=r"3 broken clips(.|\n)*a: .*/a.txt, line 3: torn"):
        module.run()


def test_an_exception_in_a_module_keeps_its_traceback(module):
    def read(data, recording, *, layout, classes):
        yield recording.clips[0], np.full(1, int("oops"))

    module.read = read
    with pytest.raises(ValueError, match="invalid literal") as error:
        module.run()
    assert not isinstance(error.value, UserError)
    places = [frame.filename for frame in traceback.extract_tb(error.value.__traceback__)]
    assert places[-1] == __file__


@pytest.mark.parametrize(
    ("part", "message"), [("read", "mine lacks read"), ("BODIES", "mine lacks BODIES")]
)
def test_a_module_that_lacks_a_part_is_refused(module, part, message):
    delattr(module, part)
    with pytest.raises(UserError, match=message):
        module.run()
    module.read, module.BODIES = None, "all"
    with pytest.raises(UserError, match="mine: BODIES is 'all', not one of"):
        module.run()
