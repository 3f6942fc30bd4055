"""The synthetic recordings: real names, formats and quirks, people that move like people."""

import dataclasses
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from layouts import KINECT_V1, KINECT_V2

from errors import UserError
from skeletons import formats
from skeletons.archives import archive
from skeletons.archives.recordings import Source
from skeletons.clips.layout import Layout
from skeletons.formats import ntu as read_ntu
from skeletons.synthetic import figure as figures
from skeletons.synthetic import motion, ntu, pku
from skeletons.synthetic.sensor import Session, Take

COMMON = {
    "seed": 0,
    "actions": 10,
    "subjects": 2,
    "cameras": 2,
    "frames": (20, 30),
    "noise": 0.01,
}
POSED = [KINECT_V1, KINECT_V2]
NO_LISTS: dict[str, list[str]] = {"labels": [], "splits": []}
NTU = {**COMMON, "setups": 2, "replications": 1}
PKU = {**COMMON, "recordings": 3, "instances": 12}
PKU_ARCHIVES = {
    "skeletons": ["bodies.zip"],
    "labels": ["labels.zip"],
    "splits": ["subject.txt", "view.txt"],
}


def generate(module, layout, numbers):
    """The recordings of a session and counts of these numbers."""
    counts = {name: numbers[name] for name in module.COUNTS}
    session = Session(**{name: numbers[name] for name in COMMON})
    return module.generate(layout, session, **counts)


@pytest.fixture(scope="module")
def clips() -> list[Take]:
    return list(generate(ntu, KINECT_V2, NTU))


@pytest.fixture(scope="module")
def videos() -> list[Take]:
    return list(generate(pku, KINECT_V2, PKU))


@pytest.fixture(scope="module")
def ntu_folder(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ntu")
    archives = ["one.zip", "two.zip/in/side", "three"]
    ntu.write(folder, KINECT_V2, clips, skeletons=archives, **NO_LISTS)
    return folder


@pytest.fixture(scope="module")
def pku_folder(videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pku")
    pku.write(folder, KINECT_V2, videos, **PKU_ARCHIVES)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def lengths(joints: np.ndarray, layout: Layout) -> np.ndarray:
    child, parent = np.transpose(layout.bones)
    return np.linalg.norm(joints[..., child, :] - joints[..., parent, :], axis=-1)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_motion(
    tmp_path, ntu_folder, pku_folder, clips, videos
):
    again = generate(ntu, KINECT_V2, NTU)
    archives = ["one.zip", "two.zip/in/side", "three"]
    ntu.write(tmp_path / "ntu", KINECT_V2, again, skeletons=archives, **NO_LISTS)
    pku.write(tmp_path / "pku", KINECT_V2, generate(pku, KINECT_V2, PKU), **PKU_ARCHIVES)
    assert contents(tmp_path / "ntu") == contents(ntu_folder)
    assert contents(tmp_path / "pku") == contents(pku_folder)
    other = next(generate(ntu, KINECT_V2, NTU | {"seed": 1}))
    assert other.joints.shape != clips[0].joints.shape or (other.joints != clips[0].joints).any()


def test_a_clip_does_not_depend_on_how_many_there_are(clips):
    more = generate(ntu, KINECT_V2, NTU | {"cameras": 2, "actions": 4})
    few = {clip.name: clip.joints for clip in more}
    same = [
        np.array_equal(clip.joints[3:8, 0], few[clip.name][3:8, 0])
        for clip in clips
        if clip.name in few
    ]
    assert len(same) == 16
    assert all(same)


@pytest.mark.parametrize("layout", POSED, ids=lambda layout: layout.name)
def test_bones_keep_their_length_when_the_sensor_has_no_noise(layout):
    for clip in generate(ntu, layout, NTU | {"noise": 0.0}):
        for body in np.moveaxis(clip.joints, 1, 0):
            seen = lengths(body[body.any((1, 2))], layout)
            if len(seen):
                np.testing.assert_allclose(seen, seen[:1].repeat(len(seen), 0), atol=1e-12)
                assert (seen[0] > 0.01).all()


def test_noise_is_as_strong_as_asked_and_weak_on_the_trunk():
    quiet, noisy = (next(generate(ntu, KINECT_V2, NTU | {"noise": noise})) for noise in (0.0, 0.02))
    error = np.ma.array(noisy.joints - quiet.joints)[:, 0]
    error[noisy.inferred[:, 0]] = np.ma.masked
    trunk = [0, 1, 2, 3, 4, 8, 12, 16, 20]  # the middle line, shoulders, hips
    limbs = np.setdiff1d(np.arange(KINECT_V2.joints), trunk)
    assert error[:, limbs].std() == pytest.approx(0.02, rel=0.1)
    assert error[:, trunk].std() == pytest.approx(0.004, rel=0.1)


def test_rotation_turns_about_the_vector():
    vectors = np.array([[0, 0, 0], [0, 0, math.pi / 2], [math.pi, 0, 0], [0.3, -0.2, 0.7]])
    matrices = figures.rotation(vectors)
    np.testing.assert_allclose(matrices[0], np.eye(3))
    np.testing.assert_allclose(matrices[1], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(matrices[2], np.diag([1, -1, -1]), atol=1e-12)
    np.testing.assert_allclose(matrices[3] @ matrices[3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(matrices[3] @ vectors[3], vectors[3])


@pytest.mark.parametrize("layout", POSED, ids=lambda layout: layout.name)
def test_a_figure_at_rest_is_its_own_mirror_image_and_stands_upright(layout):
    figure = figures.Figure(layout)
    pose = figure.place(np.zeros((1, layout.joints, 3)), figure.bones)[0]
    mirrored = pose[list(layout.swap)] * (-1, 1, 1)
    np.testing.assert_allclose(pose, mirrored, atol=1e-12)
    foot, head = pose[:, 1].argmin(), pose[:, 1].argmax()
    assert {foot, head} <= {3, 15, 19}
    assert 1.5 < np.ptp(pose[:, 1]) < 1.9


def test_a_rest_pose_that_lacks_joints_is_refused():
    headless = [(joint, place) for joint, place in KINECT_V2.rest if joint not in (3, 5)]
    with pytest.raises(UserError, match="'kinect-v2': its rest pose lacks the joints 3, 5, 9"):
        figures.Figure(dataclasses.replace(KINECT_V2, rest=tuple(headless)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_performance_the_other_way_round_is_the_mirror_image(number):
    class Side(np.random.Generator):
        def random(self, *_, **__):
            return self.side

    figure = figures.Figure(KINECT_V2)
    act = motion.action(figure, number, seed=0)
    subject = figures.subject(figure, 0)
    sides = []
    for side in (0.0, 0.9):
        rng = Side(np.random.PCG64(0))
        rng.side = side
        turns = motion._act(figure, act, 0, subject, 30, rng)
        sides.append(figure.place(turns, figure.bones))
    assert np.abs(sides[0] - sides[1]).max() > 0.05
    mirrored = sides[1][:, list(KINECT_V2.swap)] * (-1, 1, 1)
    np.testing.assert_allclose(sides[0], mirrored, atol=1e-9)


def test_no_action_differs_from_another_by_its_side_alone():
    figure = figures.Figure(KINECT_V2)
    seen = set()
    for number in range(1, 61):
        action = motion.action(figure, number, seed=0)
        driven = {drive.joint for role in action.roles for drive in role}
        assert all(joint <= KINECT_V2.swap[joint] for joint in driven)
        seen.add((*sorted(driven), action.sides, action.cycles))
    assert len(seen) > 50


def test_ntu_names_cover_everyone_and_everything(clips):
    names = [clip.name for clip in clips]
    assert names == sorted(names)
    assert len(set(names)) == 2 * 2 * 10
    assert all(re.fullmatch(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}", name) for name in names)
    assert {name[:4] + name[8:12] for name in names} == {"S001P001", "S002P002"}


def test_default_scale_has_names_of_the_list_to_leave_out():
    numbers = NTU | {"subjects": 6, "cameras": 3, "replications": 2, "setups": 1, "frames": (8, 8)}
    names = {clip.name for clip in generate(ntu, KINECT_V2, numbers)}
    leave_out = Path("datasets/lists/ntu60_missing.txt").read_text().split()
    assert "S001C002P005R002A008" in names & set(leave_out)


def test_ntu_archives_hold_what_was_generated(ntu_folder, clips):
    with zipfile.ZipFile(ntu_folder / "one.zip") as one:
        assert one.namelist()[:2] == [
            "nturgb+d_skeletons/",
            f"nturgb+d_skeletons/{clips[0].name}.skeleton",
        ]
    places = [ntu_folder / name for name in ("one.zip", "two.zip/in/side", "three")]
    files = {
        member.stem: member for place in places for member in archive.members(place, ".skeleton")
    }
    assert sorted(files) == [clip.name for clip in clips]
    for clip in clips:
        bodies = read_ntu.parse(archive.read(files[clip.name]), joints=KINECT_V2.joints)
        expected = np.moveaxis(clip.joints, 1, 0)[: len(bodies)]
        np.testing.assert_allclose(bodies, expected, rtol=1e-6)
        assert not clip.joints[:, len(bodies) :].any()


def test_ntu_text_has_the_quirks_of_the_real_files(clips):
    texts = [ntu.text(KINECT_V2, clip, crlf=False).decode() for clip in clips]
    assert any("e-05" in text for text in texts)
    counts = {}
    for clip, text in zip(clips, texts, strict=True):
        lines = text.split("\n")
        line, frames = 1, []
        for _ in range(int(lines[0])):
            frames.append(int(lines[line]))
            line += 1 + frames[-1] * (2 + KINECT_V2.joints)
        assert lines[line:] == [""]
        counts[clip.name] = frames
    pairs = {name for name in counts if int(name[-3:]) % motion.TWO_PERSON == 0}
    assert any(frames[0] == 0 for frames in counts.values())
    assert any(frames[0] != 0 in frames[1:-1] for frames in counts.values())
    assert any(max(counts[name]) == 1 for name in pairs), "a second body that is missing"
    assert any(set(counts[name]) >= {1, 2} for name in pairs), "a second body that leaves"
    assert any(max(counts[name]) == 2 for name in counts.keys() - pairs), "a ghost"


def test_the_ids_of_two_bodies_are_17_digits_and_apart_only_as_integers(clips):
    clip = next(clip for clip in clips if clip.joints[5, 1].any())
    text = ntu.text(KINECT_V2, clip, crlf=False).decode()
    first, second = sorted(set(re.findall(r"^\d{17}(?= )", text, re.MULTILINE)))
    assert int(first) < int(second)
    assert float(first) == float(second)


def test_some_ntu_files_end_their_lines_like_windows(ntu_folder):
    members = archive.members(ntu_folder / "one.zip", ".skeleton")
    assert {b"\r\n" in archive.read(member) for member in members} == {True, False}


def test_every_column_of_a_joint_is_plausible(clips):
    clip = next(clip for clip in clips if not clip.joints[:, 1].any() and clip.joints[0].any())
    lines = ntu.text(KINECT_V2, clip, crlf=False).decode().splitlines()
    values = np.array([line.split() for line in lines if line.count(" ") == 11], float)
    z, depth, colour, turn, state = (
        values[:, i] for i in (2, slice(3, 5), slice(5, 7), slice(7, 11), 11)
    )
    assert (z > 1).all()
    assert (z < 6).all()
    assert (np.abs(depth - (256, 212)) < (300, 300)).all()
    assert (np.abs(colour - (960, 540)) < (900, 900)).all()
    size = np.linalg.norm(turn, axis=1)
    assert ((np.abs(size - 1) < 1e-4) | (size == 0)).all()
    assert set(state) == {1.0, 2.0}


def test_pku_videos_hold_every_action_apart(videos):
    assert [video.name for video in videos] == [
        *("A01N01-L", "A01N01-M", "A01N02-L", "A01N02-M", "A02N01-L", "A02N01-M")
    ]
    for video in videos:
        numbers, starts, ends = np.transpose(video.labels)
        assert len(numbers) == PKU["instances"]
        assert set(numbers) == set(range(1, 11))
        assert (ends - starts >= 20).all()
        assert (starts[1:] > ends[:-1]).all()
        assert ends[-1] <= len(video.joints)
        second = video.joints[:, 1].any((1, 2))
        for number, start, end in video.labels:
            assert second[start:end].all() == (number % motion.TWO_PERSON == 0)


def test_pku_archives_hold_what_was_generated(pku_folder, videos):
    source = Source([pku_folder / "bodies.zip"], 51, [pku_folder / "labels.zip"])
    recordings, broken = formats.plan("pku", source)
    assert not broken
    assert len(recordings) == len(videos)
    for recording, video in zip(recordings, videos, strict=True):
        assert [(clip.label + 1, *clip.rows) for clip in recording.clips] == video.labels
        text = archive.read(recording.member).decode()
        frames = np.array([line.split() for line in text.splitlines()], float)
        np.testing.assert_allclose(frames.reshape(video.joints.shape), video.joints, atol=5.1e-7)
    begin = {archive.read(recording.member)[:1] == b" " for recording in recordings}
    assert begin == {True, False}


def test_pku_split_lists(pku_folder, videos):
    for name, in_test in (("subject", "N02"), ("view", "-L")):
        first, train, second, test = (pku_folder / f"{name}.txt").read_text().splitlines()
        assert "Training" in first
        assert "Validataion" in second
        assert train.startswith(" ")
        assert train.endswith(", ")
        trained, tested = ({n.strip() for n in line.split(",")} - {""} for line in (train, test))
        assert tested == {video.name for video in videos if in_test in video.name}
        assert trained == {video.name for video in videos} - tested


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"actions": 0}, "actions must be 1 to 99, not 0"),
        ({"frames": (30, 20)}, r"frames must be at least 8, the least first, not \[30, 20\]"),
        ({"noise": -1.0}, "noise must not be negative"),
        ({"cameras": 4}, "cameras must be at most 3 for PKU-MMD, not 4"),
    ],
)
def test_numbers_without_sense_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        next(generate(pku, KINECT_V2, PKU | change))
