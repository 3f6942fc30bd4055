"""What a format module yields is checked; each fault names the module, the clip and the file."""

import sys
import traceback
from types import SimpleNamespace

import numpy as np
import pytest
from layouts import KINECT_V1
from specimens import prepared

from errors import UserError
from skeletons import formats
from skeletons.archives.archive import Member
from skeletons.archives.recordings import BrokenClip, Clip, Recording
from skeletons.preparing.job import BrokenClips, Job
from skeletons.preparing.make_clips import Recipe

GOOD = np.random.default_rng(0).normal(size=(1, 4, 20, 3))


def changed(index, value):
    bodies = GOOD.copy()
    bodies[index] = value
    return bodies


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A format module `mine` of the clips a, b and c, and a function that prepares by it."""

    def plan(source):
        yield from map(recording, "cab")

    def read(data, recording, *, layout, classes):
        yield recording.clips[0], GOOD

    def recording(*names):
        member = Member(str(tmp_path), "x.txt", 1, 0)
        return Recording(member._replace(name=f"{names[0]}.txt"), tuple(Clip(n, 0) for n in names))

    def run():
        return prepared(tmp_path, Job(Recipe("mine", KINECT_V1, 2), [tmp_path]))

    def give(change):
        """Let `read` give of clip b what `change` makes of it and of good bodies."""

        def read(data, recording, *, layout, classes):
            (clip,) = recording.clips
            yield change(clip, GOOD) if clip.name == "b" else (clip, GOOD)

        mine.read = read

    for name in "abc":
        (tmp_path / f"{name}.txt").write_bytes(b"x")
    mine = SimpleNamespace(BODIES="file", plan=plan, read=read, recording=recording, run=run)
    mine.give = give
    monkeypatch.setattr(formats, "NAMES", (*formats.NAMES, "mine"))
    monkeypatch.setitem(sys.modules, "skeletons.formats.mine", mine)
    return mine


def test_clips_as_demanded_are_taken(module):
    report, clips = module.run()
    assert (report.clips, report.frames) == (3, 12)
    assert clips.name.tolist() == ["a", "b", "c"]


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
    module.give(lambda clip, _: (clip, bodies))
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
    module.give(lambda clip, good: (clip._replace(**{field: value}), good))
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


def test_a_clip_that_a_plan_gives_twice_is_refused(module):
    module.plan = lambda source: [module.recording("a", "b", "a")]
    with pytest.raises(UserError, match=r"^format module mine: clip a of .*: plan gives it twice"):
        module.run()
    module.plan = lambda source: [module.recording("a")._replace(clips=())]
    with pytest.raises(UserError, match=r"^format module mine: .*/a.txt: plan gives it no clip"):
        module.run()


@pytest.mark.parametrize("side", ["xsub", ("xsub",), ("xsub", 2), ("a/b", 1), ("", 1), (3, 1)])
def test_the_sides_of_a_plan_are_checked(module, side):
    one = module.recording("a")
    one = one._replace(clips=(one.clips[0]._replace(sides=(("xview", 0), side)),))
    module.plan = lambda source: [one]
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
    module.plan = lambda source: plan
    with pytest.raises(UserError) as refused:
        module.run()
    assert str(refused.value).startswith("format module mine: clip b of ")
    assert f"b.txt: its columns are {message}" in str(refused.value)


def test_a_joint_farther_than_any_sensor_sees_is_a_broken_clip(module):
    far = changed((0, 2, 5), (70, 70, 20.0))

    module.give(lambda clip, _: (clip, far))
    with pytest.raises(BrokenClips, match=r"b: .*: joint 6 in frame 3 is 101 m from the sensor"):
        module.run()


def test_a_broken_clip_that_is_raised_breaks_those_that_are_left(module):
    def read(data, recording, *, layout, classes):
        yield recording.clips[0], GOOD
        raise BrokenClip("torn", 3)

    module.plan = lambda source: [module.recording("c", "a", "b")]
    module.read = read
    with pytest.raises(BrokenClips) as error:
        module.run()
    assert [(b.clip, b.line, b.reason) for b in error.value.broken] == [
        ("b", 3, "torn"),
        ("c", 3, "torn"),
    ]


def test_an_exception_in_a_module_keeps_its_traceback(module):
    module.give(lambda clip, _: (clip, np.full(1, int("oops"))))
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
