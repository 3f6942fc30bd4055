"""What every format keeps: a format is one module that reads archives, and a recording becomes the
same clip whoever asks; generators write what it reads.
"""

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import damaged, frames, layout_of, normal_form_of, person, prepared, specimen

from commands import label
from skeletons import formats, synthetic
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import BrokenClip, Clip, Recording, Source
from skeletons.formats import Format
from skeletons.preparing.job import BrokenClips
from skeletons.preparing.make_clips import make_clips
from skeletons.preparing.normalise import choose_bodies, normalise
from skeletons.synthetic import Generator, Session

SESSION = Session(seed=0, actions=10, subjects=2, cameras=2, frames=(8, 12), noise=0.01)
LENGTH, MOST, BITS = 11, 8, 12
WHOLE_FILES = ("agcn", "ctrgcn", "pyskl")  # of many clips


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
    generator, layout = synthetic.load(name), layout_of(name)
    files: list[str] = []

    def progress(keys):
        files.extend(map(str, keys))
        return keys

    names = {"skeletons": ["a.zip", "b.zip/in/side"], "labels": ["l.zip"], "splits": ["view.txt"]}
    counts = dict.fromkeys(generator.COUNTS, 2)
    made = generator.generate(layout, SESSION, progress=progress, **counts)
    generator.write(tmp_path, layout, made, **names)
    labels = [tmp_path / "l.zip"] if (tmp_path / "l.zip").exists() else []
    source = Source([tmp_path / name for name in names["skeletons"]], 10, labels)
    recordings, broken = formats.plan(name, source)
    assert not broken
    assert len(recordings) == len(files) > 1
    for recording in recordings:
        data = archive.read(recording.member)
        for clip, bodies in formats.read(name, data, recording, layout=layout, classes=10):
            assert isinstance(bodies, np.ndarray), bodies
            assert len(bodies) <= layout.bodies
            assert bodies.shape[1] <= 12
            assert 0 <= clip.label < 10


# ---- One clip ------------------------------------------------------------------------------------


def bodies_of(name: str) -> np.ndarray:
    """The bodies of a specimen: a ghost more where energy chooses and the form has room for it."""
    layout = layout_of(name)
    number = 3 if name in ("ntu", "pyskl") else layout.bodies
    bodies = person(0, LENGTH, number, layout.joints)
    bodies[2:] = bodies[2:, :1]
    return bodies


def clip_of(name: str) -> np.ndarray:
    """The prepared clip of these bodies."""
    bodies, start = bodies_of(name), (LENGTH - MOST) // 2
    if name == "pyskl":
        bodies = bodies.astype(np.float16).astype(float)
    central = bodies[:, start : start + MOST]
    if formats.is_prepared(name):
        return central.swapaxes(0, 1).astype(np.float32)
    layout = layout_of(name)
    kept = choose_bodies(central, formats.load(name).BODIES, layout.bodies)
    return normalise(kept, layout, normal_form_of(name))


def orders(name: str) -> dict[str, list[int | None]]:
    """The layout's own order of joints, another, and one with joints that it has not."""
    other = np.random.default_rng(0).permutation(layout_of(name).joints).tolist()
    found = {"own": [], "other": other, "with null": [None, *other[:7], None, *other[7:]]}
    if name == "msraction3d":  # whose files have 20 joints, whatever they are
        del found["with null"]
    return found


@pytest.mark.parametrize("keepbits", [None, BITS])
@pytest.mark.parametrize(
    ("name", "order"), [(name, order) for name in formats.NAMES for order in orders(name)]
)
def test_a_recording_is_the_same_clip_for_prepare_and_label(tmp_path, name, order, keepbits):
    joints, bodies = orders(name)[order], bodies_of(name)
    own = bodies
    if joints:
        own = np.ones((*bodies.shape[:2], len(joints), 3)) * [0.5, 1, 2]
        for place, joint in enumerate(joints):
            if joint is not None:
                own[:, :, place] = bodies[:, :, joint]
    recipe = {"joints": tuple(joints), "max_frames": MOST, "keepbits": keepbits}
    job = specimen(name, tmp_path / "raw", own, **recipe)
    report, clips = prepared(tmp_path, job)
    assert (report.clips, clips.raw_frames.tolist(), clips.label.tolist()) == (1, [LENGTH], [0])
    np.testing.assert_allclose(
        clips.frames, clip_of(name), rtol=2**-BITS if keepbits else 0, atol=2e-6
    )
    (recording,), _ = formats.plan(name, Source(job.skeletons, job.recipe.classes, job.labels))
    member = recording.member
    if name in WHOLE_FILES:
        unlabelled = Recording(member, (Clip(member.stem, 0),))
        ((made, *more), broken) = [*make_clips(unlabelled, job.recipe)], []
    else:
        path = Path(member.archive, member.name)
        ((_, made), *more), broken = label.read([path], job.recipe, every=None)
    assert (more, broken) == ([], [])
    assert made.frames.tobytes() == frames(clips).tobytes()


@pytest.mark.parametrize("name", formats.NAMES)
def test_a_clip_with_nobody_is_left_out(tmp_path, name):
    job = specimen(name, tmp_path / "raw", np.zeros_like(bodies_of(name)))
    with pytest.raises(BrokenClips) as error:
        prepared(tmp_path, job)
    (broken,) = error.value.broken
    assert broken.reason.startswith("no body: all ")


@pytest.mark.parametrize("name", [name for name in formats.NAMES if name != "msraction3d"])
def test_recordings_of_other_joints_are_refused(tmp_path, name):
    job = specimen(name, tmp_path / "raw", bodies_of(name))
    layout = job.recipe.layout
    other = replace(layout, joints=layout.joints + 1)
    (recording,), _ = formats.plan(name, Source(job.skeletons, job.recipe.classes, job.labels))
    data = archive.read(recording.member)
    kinds = {"layout": other, "classes": job.recipe.classes}
    if name in WHOLE_FILES:
        with pytest.raises(ArchiveError, match=f"{layout.joints} joints, where layout"):
            list(formats.read(name, data, recording, **kinds))
    else:
        ((_, outcome),) = formats.read(name, data, recording, **kinds)
        assert isinstance(outcome, BrokenClip)


# ---- Any bytes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", formats.NAMES)
@pytest.mark.parametrize("data", [b"", b"\n", b"7", b"[[[]]]", b"\xff\x00", b"nan " * 999])
def test_bytes_of_no_format_are_a_broken_clip(name, data):
    clip = Clip("clip", 0, rows=(0, 1))
    recording = Recording(Member("x.zip", "clip", len(data), 0), (clip,))
    kinds = {"layout": layout_of(name), "classes": 10}
    ((read, outcome),) = formats.read(name, data, recording, **kinds)
    assert read == clip
    assert isinstance(outcome, BrokenClip)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A short recording of each format and its bytes."""
    found = {}
    for name in formats.NAMES:
        bodies = bodies_of(name)[:, :2]
        job = specimen(name, tmp_path_factory.mktemp("raw") / name, bodies)
        (recording,), _ = formats.plan(name, Source(job.skeletons, job.recipe.classes, job.labels))
        found[name] = recording, archive.read(recording.member)
    return found


@pytest.mark.parametrize("name", formats.NAMES)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_recording_is_a_clip_or_a_broken_one_and_nothing_is_raised(
    recordings, name, data
):
    recording, whole = recordings[name]
    changed = data.draw(damaged(st.just(whole)))
    kinds = {"layout": layout_of(name), "classes": 60}
    for _, outcome in formats.read(name, changed, recording, **kinds):
        if isinstance(outcome, BrokenClip):
            assert "\n" not in outcome.reason
            assert len(outcome.reason) < 300
            assert outcome.line is None or 1 <= outcome.line <= changed.count(b"\n") + 1


def test_the_formats_are_the_modules_of_the_folder():
    folder = Path(formats.__file__).parent
    assert set(formats.NAMES) == {path.stem for path in folder.glob("[!_]*.py")}
    with pytest.raises(ValueError, match=f"unknown format 'bvh': there are {formats.NAMES[0]}, "):
        formats.load("bvh")
