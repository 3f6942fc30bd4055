"""MSR-Action3D's text: clips as written, each fault with its message; the real clips."""

import contextlib
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import KINECT_V1
from real import REAL, prepared
from specimens import damaged

from skeletons import formats
from skeletons.archives.recordings import BrokenClip, Clip, Source
from skeletons.clips import protocols
from skeletons.formats import msraction3d
from skeletons.preparing.normalise import upright

# By joint of the file, from 1, that of kinect-v1, from 1.
PLACES = [5, 9, 3, 2, 13, 17, 1, 6, 10, 7, 11, 8, 12, 14, 18, 15, 19, 16, 20, 4]


def text(frames=2):
    """A clip: joint j of frame t, both from 1, is at (j, t, 1.5), its confidence 0.5."""
    return "".join(
        f"{j} {t} 1.5 0.5\n" for t in range(1, frames + 1) for j in range(1, 21)
    ).encode()


def test_joints_are_those_of_the_layout():
    body = msraction3d.parse(text())
    assert body.shape == (2, 20, 3)
    for t, frame in enumerate(body, 1):
        for joint, place in enumerate(PLACES, 1):
            assert frame[place - 1].tolist() == [joint, t, 1.5]


def test_clips_are_known_by_their_names(tmp_path):
    for name in ("a20_s10_e03_skeleton3D", "a01_s02_e01_skeleton3D", "a21_s01_e01_skeleton3D"):
        (tmp_path / f"{name}.txt").write_bytes(text())
    (tmp_path / "a1_s1_e1_skeleton3D.txt").write_bytes(text())
    (tmp_path / "files_used_in_cvpr12_paper.txt").write_text("a01_s02_e01")
    recordings, broken = formats.plan("msraction3d", Source([tmp_path], 20))
    assert [recording.clips for recording in recordings] == [
        (Clip("a01_s02_e01", 0, subject=2, replication=1),),
        (Clip("a20_s10_e03", 19, subject=10, replication=3),),
    ]
    assert [(entry.clip, entry.reason) for entry in broken] == [
        ("a1_s1_e1_skeleton3D", "the name is not aAA_sSS_eEE_skeleton3D"),
        ("a21_s01_e01", "unknown action 21: the dataset has 20"),
    ]


GOOD = text()
FAULTS = {
    "empty": (b"", 1, "0 frames"),
    "screen coordinates": (b"1 2 3\n" * 20, 1, "3 values where 4 are due"),
    "blank line": (GOOD + b"\n" + GOOD, 41, "0 values where 4 are due"),
    "cut": (GOOD[: GOOD.rindex(b"20 2")], 39, "ends after 19 joints of a frame's 20"),
    "text": (GOOD.replace(b"3 2 1.5", b"3 two 1.5"), 23, "the coordinate 'two' is no length"),
    "nan": (GOOD.replace(b"3 2 1.5", b"3 nan 1.5"), 23, "the coordinate 'nan' is no length"),
    "millimetres": (GOOD.replace(b"4 1 1.5", b"4 1 150000"), 4, "'150000' is no length"),
    "ten minutes": (text(1) * 18_001, None, "18001 frames, where 18000 is the most"),
}


@pytest.mark.parametrize(("data", "line", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_file_is_refused_with_the_reason_and_the_line_if_known(data, line, reason):
    with pytest.raises(BrokenClip) as error:
        msraction3d.parse(data)
    assert reason in error.value.reason
    assert error.value.line == line


@settings(max_examples=200, deadline=None)
@given(damaged(st.just(GOOD)))
def test_any_bytes_are_a_valid_clip_or_the_one_error(data):
    with contextlib.suppress(BrokenClip):
        body = msraction3d.parse(data)
        spaces = bytes(32 if byte < 32 and byte != 10 else byte for byte in range(256))
        words = [line.split()[:3] for line in data.translate(spaces).split(b"\n")]
        lines = np.array([line for line in words if line])
        order = [PLACES.index(place) for place in range(1, 21)]
        assert (body == lines.astype(float).reshape(-1, 20, 3)[:, order]).all()


# ---- The real clips ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return prepared("msraction3d", tmp_path_factory.mktemp("real"))


def test_the_real_archive_has_the_clips_that_published_results_use(real):
    clips, rules = real
    with zipfile.ZipFile(REAL / "msraction3d/MSRAction3D.zip") as archive:
        folder = "MSRAction3D/real_world_coordinates"
        used = archive.read(f"{folder}/files_used_in_cvpr12_paper.txt").decode().split()
    assert len(used) == 557
    assert clips.name.tolist() == sorted(used)
    sides = {name: protocols.split(clips, rule) for name, rule in rules.items()}
    assert [len(side) for side in sides["xsub"]] == [284, 273]
    assert sorted(np.concatenate(sides["val"])) == sides["xsub"][0].tolist()
    assert not set(clips.subject[sides["val"][0]]) & set(clips.subject[sides["val"][1]])


def test_a_real_clip_is_prepared_by_the_rules_one_by_one(real):
    clips, _ = real
    name = "a13_s02_e02"  # with frames in which nobody is
    with zipfile.ZipFile(REAL / "msraction3d/MSRAction3D.zip") as archive:
        text = archive.read(f"MSRAction3D/real_world_coordinates/{name}_skeleton3D.txt").decode()
    lines = np.loadtxt(text.splitlines()).reshape(-1, 20, 4)
    body = np.zeros((len(lines), 20, 3))
    for joint, place in enumerate(PLACES):
        body[:, place - 1] = lines[:, joint, :3]
    at = clips.name.tolist().index(name)
    prepared = clips.frames[clips.offsets[at] : clips.offsets[at + 1]]
    np.testing.assert_allclose(prepared, upright(body[None], KINECT_V1), rtol=0, atol=2e-5)
    assert (clips.label[at], clips.subject[at], clips.replication[at]) == (12, 2, 2)


def test_bones_are_as_long_as_a_persons_and_alike_on_both_sides(real):
    """As they are if the joints are in the order of the layout."""
    clips, _ = real
    body = clips.frames[:, 0]
    lengths = {
        joint: np.median(np.linalg.norm(body[:, joint] - body[:, parent], axis=-1))
        for joint, parent in KINECT_V1.bones
    }
    assert all(0.05 < length < 0.6 for length in lengths.values())
    for joint, length in lengths.items():
        assert abs(length - lengths[KINECT_V1.swap[joint]]) < 0.02
