"""What is said of a prepared dataset, and what of it cannot be people of its layout."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from layouts import KINECT_V1, KINECT_V2

from skeletons.clips import store
from skeletons.formats import ntu
from skeletons.preparing import summary
from skeletons.preparing.job import Job, Report, prepare
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.normalise import choose_bodies
from skeletons.synthetic.figure import Figure

EDGE = Path(__file__).parent / "golden" / "edge"
REPORT = Report(0, 0, 0, (), "", rule="file", kept=0, dropped=0, empty_frames=0, absent_joints=())


def write(folder, layout, clips, classes=1, names=None, **fields):
    """A store of clips (T, M, V, 3)."""
    lengths = [len(clip) for clip in clips]
    frames = np.concatenate(clips).astype(np.float32)
    data = store.encode_shard(frames, keepbits=None, shard=store.SHARD)
    path = store.shard_file(folder, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    of_each = dict.fromkeys(store.FIELDS, [0] * len(clips)) | {"raw_frames": lengths} | fields
    described = store.Clips(
        frames=frames,
        offsets=np.cumsum([0, *lengths]),
        name=np.array(names or [f"c{i:04}" for i in range(len(clips))], store.TEXT),
        splits={},
        layout=layout,
        classes=classes,
        **{name: np.array(values, np.int32) for name, values in of_each.items()},
    )
    store.finish(folder, described, format="ntu", keepbits=None, shard=store.SHARD)
    return folder


def people(layout, clips=6, seed=0):
    """Clips (T, M, V, 3) of one moving person each, as `normalise` leaves them."""
    rng, figure = np.random.default_rng(seed), Figure(layout)
    for length in rng.integers(20, 60, clips):
        swing = np.sin(np.linspace(0, 7, length))[:, None, None]
        turns = rng.normal(0, 0.3, (1, layout.joints, 3)) * swing
        bones = figure.bones * rng.uniform(0.9, 1.1)
        body = figure.place(turns, bones)[..., [0, 2, 1]] * (1, -1, 1)  # z is up
        clip = np.zeros((length, layout.bodies, layout.joints, 3))
        clip[:, 0] = body - body[:, layout.centre, None]
        yield clip


def said(folder, layout, clips, absent=()):
    """The warnings about these clips, whose joints `absent` are zero in all."""
    path, absent = write(folder, layout, clips), tuple(absent)
    measures = summary.measure(path, layout, absent)
    found = summary.summarise(path, REPORT._replace(absent_joints=absent), measures)
    assert json.loads(json.dumps(asdict(found)))["measured"] == len(clips)
    summary.paragraph(found)
    return list(summary.warnings(found, measures, layout))


def naive(clip, layout, absent):
    """Height, lengths and changes of bones of one clip, a frame and a bone at a time."""
    moments = [round(i * (len(clip) - 1) / 31) for i in range(32)]
    heights, lengths = [], []
    for t in moments:
        body = clip[t, 0].astype(float)
        seen = [
            j not in absent and (body[j].any() or (j == layout.centre and body.any()))
            for j in range(layout.joints)
        ]
        up = [body[j, 2] for j in range(layout.joints) if seen[j]]
        heights.append(max(up) - min(up) if up else np.nan)
        lengths.append(
            [
                np.sqrt(((body[j] - body[p]) ** 2).sum()) if seen[j] and seen[p] else np.nan
                for j, p in layout.bones
            ]
        )
    parts = [np.nanmedian(lengths[i : i + 8], axis=0) for i in range(0, 32, 8)]
    length = np.nanmedian(lengths, axis=0)
    return np.nanmedian(heights), length, (np.nanmax(parts, 0) - np.nanmin(parts, 0)) / length


@pytest.mark.filterwarnings("ignore:.*NaN:RuntimeWarning")  # of the naive twin
@pytest.mark.parametrize(("layout", "absent"), [(KINECT_V1, ()), (KINECT_V2, (7, 20))])
def test_bodies_are_measured_as_one_frame_at_a_time(tmp_path, layout, absent):
    rng = np.random.default_rng(0)
    clips = list(people(layout, clips=40))
    clips[3] = clips[3][:1]
    for clip in clips:
        clip += rng.normal(0, 0.05, clip.shape)
        clip[rng.random(clip.shape[:3]) < 0.2] = 0
        clip[rng.random(len(clip)) < 0.2] = 0
        clip[:, :, [layout.centre, *absent]] = 0
    clips[5][:, 0] = 0  # a first body that is never there
    path = write(tmp_path / "s", layout, clips)
    expected = [naive(clip.astype(np.float32), layout, absent) for clip in clips]
    measures = summary.measure(path, layout, absent)
    measured = measures[1:4]
    for found, due in zip(measured, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(found, due, rtol=1e-12)
    found = summary.summarise(path, REPORT._replace(absent_joints=absent), measures)
    for bone, length, change in zip(
        found.bones, *(np.nanmedian(values, axis=0) for values in measured[1:]), strict=True
    ):
        hidden = {bone.joint, bone.parent} & set(absent)
        assert (bone.length, bone.change) == (
            (None, None) if hidden else (round(length, 4), round(change, 4))
        )
    assert found.height == round(np.nanmedian(measured[0]), 4)


def test_of_many_clips_some_of_all_parts_are_the_summarys_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "CLIPS", 40)
    monkeypatch.setattr(summary, "RUN", 10)
    ladder = np.ones((2, 1, 20, 3)) + np.linspace(0, 1, 20)[:, None]
    path = write(tmp_path / "s", KINECT_V1, [ladder * number for number in range(1, 101)])
    measures = summary.measure(path, KINECT_V1)
    assert measures.height.round().astype(int).tolist() == list(range(1, 101))
    found = summary.summarise(path, REPORT, measures)
    runs = [range(1, 11), range(31, 41), range(61, 71), range(91, 101)]
    assert found.measured == 40
    assert found.height == pytest.approx(np.median([number for run in runs for number in run]))


@pytest.mark.parametrize("layout", [KINECT_V1, KINECT_V2], ids=lambda layout: layout.name)
@pytest.mark.parametrize("noise", [0, 0.05])
def test_of_people_nothing_is_said_whatever_a_sensor_errs(tmp_path, layout, noise):
    rng = np.random.default_rng(1)
    clips = [clip + rng.normal(0, noise, clip.shape) for clip in people(layout, clips=12)]
    assert said(tmp_path / "s", layout, clips) == []


@pytest.mark.parametrize(
    ("scale", "unit"),
    [
        (1000, "divide by 1,000 (archives.unit: mm)"),
        (100, "divide by 100 (archives.unit: cm)"),
        (0.01, "multiply by 100 (archives.unit)"),
        (0.2, "are these image coordinates?"),
    ],
)
def test_coordinates_that_are_not_metres_are_said(tmp_path, scale, unit):
    clips = [clip * scale for clip in people(KINECT_V2)]
    (line,) = said(tmp_path / "s", KINECT_V2, clips)
    assert line.endswith(f" m high, where a person is 0.5 to 2.5 m: {unit}")


def test_where_joints_are_absent_a_low_body_is_of_metres(tmp_path):
    clips = [clip * (np.arange(25)[:, None] < 2) for clip in people(KINECT_V2)]
    lines = said(tmp_path / "s", KINECT_V2, clips, range(2, 25))
    assert lines
    assert not any("where a person is" in line for line in lines)


@pytest.mark.parametrize("seed", range(3))
def test_other_joints_than_the_layouts_are_said(tmp_path, seed):
    other = np.random.default_rng(seed).permutation(25)
    lines = said(tmp_path / "s", KINECT_V2, [clip[:, :, other] for clip in people(KINECT_V2)])
    unlike = [line for line in lines if line.startswith("bones are not the sensor's own (m): ")]
    assert len(unlike) == 1
    assert unlike[0].endswith(
        "; is kinect-v2 the sensor, and archives.joints the order of its joints?"
    )


def test_bones_are_named_whose_sides_are_unlike(tmp_path):
    clips = list(people(KINECT_V1))
    for clip in clips:
        clip[:, :, 13:16] += (clip[:, :, 13] - clip[:, :, 12])[:, :, None]  # a thigh twice as long
    (line,) = said(tmp_path / "s", KINECT_V1, clips)
    assert line.startswith(
        "bones of the left and the right are unlike (m): left knee to left hip 0."
    )
    assert line.count(", of the other side ") == 1


def test_bones_are_named_that_change_and_are_not_those_of_the_hands(tmp_path):
    clips = list(people(KINECT_V2))
    for clip in clips:
        slow = np.linspace(0.5, 2, len(clip))[:, None]
        for joint, parent in ((21, 22), (23, 24), (10, 9)):
            bone = clip[:, 0, joint] - clip[:, 0, parent]
            clip[:, 0, joint] = clip[:, 0, parent] + bone * slow
    (line,) = said(tmp_path / "s", KINECT_V2, clips)
    assert line.startswith(
        "bones change by more than half of their length: right wrist to right elbow; "
    )


def test_joints_that_are_zero_in_every_clip_are_said_and_their_bones_are_not(tmp_path):
    clips = list(people(KINECT_V2))
    for clip in clips:
        clip[:, :, [7, 21]] = 0
    (line,) = said(tmp_path / "s", KINECT_V2, clips, absent=(7, 21))
    assert line == (
        "absent, zero in every clip, and left out of heights and bones: left hand, left hand tip"
    )


# ---- From archives -------------------------------------------------------------------------------


def prepared(folder, source, **settings):
    """The summary of NTU's clips, the store, and the warnings."""
    job = Job(Recipe("ntu", KINECT_V2, 60, normal_form="released", **settings), [source])
    report = prepare(folder / "s.zarr", job, scratch=folder / "scratch")
    measures = summary.measure(folder / "s.zarr", KINECT_V2, report.absent_joints)
    found = summary.summarise(folder / "s.zarr", report, measures)
    lines = list(summary.warnings(found, measures, KINECT_V2))
    return found, store.read(folder / "s.zarr"), lines


def test_counts_are_those_of_one_clip_after_the_other(tmp_path):
    found, clips, _ = prepared(tmp_path, EDGE, max_frames=30)
    kept = dropped = empty = cut = 0
    for path in sorted(EDGE.iterdir()):
        bodies = ntu.parse(path.read_bytes(), joints=25)
        cut += bodies.shape[1] > 30
        start = max(bodies.shape[1] - 30, 0) // 2
        bodies = bodies[:, start : start + 30]
        chosen = choose_bodies(bodies, "energy", 2)
        present = sum(body.any() for body in bodies)
        kept += sum(body.any() for body in chosen)
        dropped += present - sum(body.any() for body in chosen)
        empty += sum(not chosen[:, frame].any() for frame in range(chosen.shape[1]))
    assert (found.bodies_kept, found.bodies_dropped) == (kept, dropped)
    assert (found.frames_without_body, found.cut) == (empty, cut)
    assert min(kept, dropped, empty, cut) > 0
    assert (found.clips, found.measured, found.rule) == (11, 11, "energy")
    labels, subjects = clips.label.tolist(), clips.subject.tolist()
    of_class = sorted(labels.count(label) for label in range(60))
    of_subject = sorted(map(subjects.count, set(subjects)))
    for spread, counts in (
        (found.clips_per_class, of_class),
        (found.clips_per_subject, of_subject),
        (found.frames_per_clip, sorted(clips.raw_frames.tolist())),
    ):
        assert spread == summary.Spread(counts[0], np.median(counts), counts[-1])


def test_the_paragraph_says_it_in_words(tmp_path):
    clips = list(people(KINECT_V1, clips=3))
    path = write(tmp_path / "s", KINECT_V1, clips, classes=2, label=[0, 0, 1])
    report = REPORT._replace(rule="energy", kept=3, dropped=1200, empty_frames=1)
    found = summary.summarise(path, report, summary.measure(path, KINECT_V1))
    lengths = sorted(bone.length for bone in found.bones)
    frames = sorted(map(len, clips))
    assert summary.paragraph(found) == (
        f"1, 1.5 and 2 clips of a class (least, median, most); {frames[0]}, {frames[1]} and "
        f"{frames[2]} frames of a clip (shortest, median, longest); bodies: 3 kept, 1,200 dropped "
        f"by the rule 'energy'; 1 frame without a body; a body is {found.height:.2f} m high, its "
        f"bones {lengths[0]:.2f} to {lengths[-1]:.2f} m long (medians of 3 clips)"
    )


def skeleton_text(clip):
    """A clip (T, V, 3) as NTU's text."""
    lines = [str(len(clip))]
    for frame in clip:
        lines += [
            "1",
            "0 " * 10,
            "25",
            *(" ".join(map(str, [*joint, *[0] * 9])) for joint in frame),
        ]
    return "\n".join(lines)


def test_rows_of_an_archive_that_are_other_joints_are_said(tmp_path):
    """Of NTU's text whose 25 rows are those of another sensor, five of them always zero."""
    (tmp_path / "raw").mkdir()
    for number, clip in enumerate(people(KINECT_V1), 1):
        rows = np.zeros((len(clip), 25, 3))
        rows[:, :20] = (clip[:, 0] + (0.3, -2.5, 0.9))[:, ::-1, [0, 2, 1]] * (1, 1, -1)
        name = f"S001C001P{number:03}R001A001.skeleton"
        (tmp_path / "raw" / name).write_text(skeleton_text(rows))
    _, _, lines = prepared(tmp_path, tmp_path / "raw")
    absent = "spine shoulder, left hand tip, left thumb, right hand tip, right thumb"
    assert any(line.endswith(f"heights and bones: {absent}") for line in lines)
    assert any(line.startswith("bones are not the sensor's own (m): ") for line in lines)
