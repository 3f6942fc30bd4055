"""Arrays that people have instead of archives: pyskl's pickle, CTR-GCN's npz, AGCN's folders."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import specimens
import yaml
from clone import ROOT
from layouts import KINECT_V1, KINECT_V2
from specimens import CLASSES, agcn, annotations, ctrgcn, frames, person
from test_pages import blocks

from errors import UserError
from skeletons.archives import archive
from skeletons.archives.archive import ArchiveError
from skeletons.clips import protocols, store
from skeletons.preparing.job import BrokenClips, Job
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.normalise import largest_bodies, released
from stages import prepare as prepare_stage
from stages import raw

EDGE = ROOT / "tests/golden/edge"
REAL = ROOT.parent / "shared" / "real"
TRAIN = {"subject": [1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38]}


def prepared(folder: Path, format: str, *archives: Path, layout=KINECT_V2) -> store.Clips:
    """The clips of these archives."""
    return specimens.prepared(
        folder, Job(Recipe(format, layout, CLASSES, normal_form="released"), archives)
    )[1]


def refusal(folder: Path, format: str, archive: Path, **others) -> str:
    """The one line by which an archive is refused, nothing being written."""
    with pytest.raises(ArchiveError) as error:
        prepared(folder, format, archive, **others)
    assert not (folder / "out.zarr").exists()
    assert "\n" not in str(error.value)
    assert str(archive) in str(error.value)
    return str(error.value)


NAMES = ["S001C001P001R001A001", "S001C002P003R002A002", "S002C003P008R001A003"]
BODIES = {name: person(seed, 9 + seed, 1 + seed % 2) for seed, name in enumerate(NAMES)}


# ---- AGCN ----------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path):
    """The store of the edge cases."""
    return prepared(tmp_path, "ntu", EDGE)


@pytest.fixture
def folder(tmp_path, ours):
    """The same clips in the form of AGCN, in no order, on two sides."""
    clips = {name: frames(ours, index) for index, name in reversed([*enumerate(ours.name)])}
    names = list(clips)
    agcn(tmp_path / "xsub", {name: clips[name] for name in names[:4]})
    shutil.rmtree(tmp_path / "out.zarr")
    return agcn(tmp_path / "xsub", {name: clips[name] for name in names[4:]}, "val")


def test_prepared_clips_are_cut_and_otherwise_as_they_were(tmp_path, ours, folder):
    clips = prepared(tmp_path, "agcn", folder)
    assert clips.frames.tobytes() == ours.frames.tobytes()
    for field in ("offsets", "name", *store.FIELDS):
        np.testing.assert_array_equal(getattr(clips, field), getattr(ours, field))
    assert clips.splits["xsub"].tolist() == [0] * (len(clips) - 4) + [1] * 4


def test_the_joint_in_the_origin_of_prepared_clips_is_not_an_absent_one(tmp_path):
    body = released(largest_bodies(person(0, 9, 1), 2), KINECT_V2)
    body[:, :, 7] = 0
    folder = agcn(tmp_path / "xsub", {NAMES[0]: body})
    report, _ = specimens.prepared(tmp_path, Job(Recipe("agcn", KINECT_V2, CLASSES), [folder]))
    assert not body[:, :, KINECT_V2.centre].any()
    assert report.absent_joints == (7,)


def test_frames_beyond_the_array_are_none(tmp_path, ours, folder):
    length = int(np.diff(ours.offsets).max())
    np.save(folder / "train_num_frame.npy", np.full(4, 1000))
    clips = prepared(tmp_path, "agcn", folder)
    assert set(clips.raw_frames[clips.splits["xsub"] == 1].tolist()) == {40}
    assert length <= 40


def test_a_side_that_is_empty_or_not_there_is_fine(tmp_path, ours, folder):
    for path in folder.glob("train_*"):
        path.unlink()
    assert len(prepared(tmp_path, "agcn", folder)) == len(ours) - 4
    np.save(folder / "train_data_joint.npy", np.empty((0, 3, 40, 25, 2), np.float32))
    np.save(folder / "train_num_frame.npy", np.empty(0, int))
    (folder / "train_label.pkl").write_bytes(pickle.dumps(([], [])))
    assert len(prepared(tmp_path, "agcn", folder)) == len(ours) - 4


def change(path: Path, function) -> None:
    """Write an array anew."""
    np.save(path, function(np.load(path)))


AGCN_DECOYS = {
    "cut short": (
        lambda f: (f / "val_data_joint.npy").write_bytes(
            (f / "val_data_joint.npy").read_bytes()[:-1]
        ),
        "val_data_joint.npy: cut short: ",
    ),
    "17 joints": (
        lambda f: change(f / "train_data_joint.npy", lambda a: a[:, :, :, :17].copy()),
        "train_data_joint.npy: 17 joints, where layout kinect-v2 has 25",
    ),
    "2D": (
        lambda f: change(f / "train_data_joint.npy", lambda a: a[:, :2].copy()),
        "train_data_joint.npy: float32 of shape (4, 2, 40, 25, 2), not float32 (clips, 3, ",
    ),
    "double": (
        lambda f: change(f / "train_data_joint.npy", lambda a: a.astype(np.float64)),
        "train_data_joint.npy: float64 of shape",
    ),
    "three bodies": (
        lambda f: change(f / "train_data_joint.npy", lambda a: a[..., [0, 1, 1]].copy()),
        "train_data_joint.npy: 3 bodies, where layout kinect-v2 has 2",
    ),
    "no lengths": (
        lambda f: (f / "train_num_frame.npy").unlink(),
        "train_num_frame.npy: no such file, and the arrays do not tell where a clip ends",
    ),
    "other lengths": (
        lambda f: np.save(f / "train_num_frame.npy", np.ones(3, int)),
        "4 clips, where its label file has 4 names and 4 labels, and train_num_frame.npy 3 numbers",
    ),
    "no labels": (
        lambda f: (f / "val_label.pkl").write_bytes(pickle.dumps([1, 2, 3])),
        "val_label.pkl: not a pair, of names and labels",
    ),
    "labels as text": (
        lambda f: (f / "val_label.pkl").write_bytes(pickle.dumps((["a"], ["b"]))),
        "val_label.pkl: not a pair of names and labels: no list of whole numbers",
    ),
    "folder above": (
        lambda f: [path.unlink() for path in f.iterdir()],
        "holds no train_data_joint.npy and no val_data_joint.npy; name the unpacked folder of one",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), AGCN_DECOYS.values(), ids=AGCN_DECOYS)
def test_what_is_no_folder_of_agcns_is_refused(tmp_path, folder, spoil, message):
    spoil(folder)
    assert message in refusal(tmp_path, "agcn", folder)


# ---- CTR-GCN -------------------------------------------------------------------------------------


def leaving() -> np.ndarray:
    """Two bodies, the second of which comes late and goes early, and is the larger."""
    bodies = person(4, 12)
    bodies[1] = 3 * bodies[1] - 5
    bodies[1, [0, 1, 10, 11]] = 0
    return bodies


@pytest.mark.parametrize("moved", [True, False])  # those of PKU-MMD are not
def test_moved_clips_are_prepared_as_the_raw_ones(tmp_path, moved):
    train, test = [person(1, 15, 1), leaving()], [person(3, 20)]
    path = ctrgcn(tmp_path / "NTU60_CS.npz", train, test, moved=moved)
    clips = prepared(tmp_path, "ctrgcn", path)
    assert clips.name.tolist() == [
        *("NTU60_CS-test-000000", "NTU60_CS-train-000000", "NTU60_CS-train-000001")
    ]
    assert clips.label.tolist() == [0, 0, 1]
    assert clips.splits["NTU60_CS.npz"].tolist() == [0, 1, 1]
    assert np.diff(clips.offsets).tolist() == [20, 15, 12]
    for index, bodies in enumerate((*test, *train)):
        expected = released(largest_bodies(bodies, 2), KINECT_V2)
        np.testing.assert_allclose(frames(clips, index), expected, rtol=0, atol=2e-6)


def test_a_side_without_a_clip_is_fine(tmp_path):
    clips = prepared(tmp_path, "ctrgcn", ctrgcn(tmp_path / "a.npz", [], [person(1, 15, 1)]))
    assert clips.name.tolist() == ["a-test-000000"]
    assert clips.splits["a.npz"].tolist() == [0]


def altered(path: Path, **arrays) -> None:
    """Write an npz anew with some arrays changed, left out where None."""
    with np.load(path) as held:
        kept = {name: held[name] for name in held.files} | arrays
    np.savez(path, **{name: array for name, array in kept.items() if array is not None})


CTRGCN_DECOYS = {
    "17 joints": ({"x_test": np.ones((1, 20, 102), "f4")}, "17 joints, where layout kinect-v2"),
    "9 joints": ({"x_test": np.ones((1, 20, 54), "f4")}, "9 joints, where layout kinect-v2 has 25"),
    "2D": ({"x_test": np.ones((1, 20, 100), "f4")}, "100 values a frame are not x, y, z of the jo"),
    "axes": (
        {"x_test": np.ones((1, 20, 2, 25, 3), "f4")},
        "x_test is float32 of shape (1, 20, 2, 25, 3), not float32 (clips, frames, values)",
    ),
    "no label": ({"y_test": None}, "holds no y_test, but x_test, x_train, y_train"),
    "fewer labels": ({"y_train": np.eye(60)[:1]}, "2 clips in x_train and 1 labels in y_train"),
    "numbers": ({"y_train": np.arange(2)}, "y_train is int64 of shape (2,), not one-hot (clips, "),
    "classes": ({"y_train": np.eye(120)[:2]}, "y_train has 120 classes, where the dataset's file"),
}


@pytest.mark.parametrize(("arrays", "message"), CTRGCN_DECOYS.values(), ids=CTRGCN_DECOYS)
def test_what_is_no_npz_of_ctr_gcns_is_refused(tmp_path, arrays, message):
    path = ctrgcn(tmp_path / "a.npz", [person(1, 15, 1), person(2, 9)], [person(3, 20)])
    altered(path, **arrays)
    assert message in refusal(tmp_path, "ctrgcn", path)


def test_clips_that_cannot_be_used_are_named(tmp_path):
    path = ctrgcn(tmp_path / "a.npz", [person(seed, 9) for seed in range(4)], [])
    with np.load(path) as held:
        x, y = held["x_train"], held["y_train"]
    x[1] = 0
    x[2, 3, 4] = np.nan
    y[3] = 0.5
    altered(path, x_train=x, y_train=y)
    with pytest.raises(BrokenClips) as error:
        prepared(tmp_path, "ctrgcn", path)
    assert [(entry.clip, entry.reason, entry.stops) for entry in error.value.broken] == [
        ("a-train-000001", "no body: all coordinates are zero", False),
        ("a-train-000002", "a coordinate is NaN or infinite", True),
        ("a-train-000003", "no label: y_train[3] is not one-hot", True),
    ]


# ---- pyskl ---------------------------------------------------------------------------------------


def pyskl(path: Path, content: object = None, protocol: int = 4, **others) -> Path:
    """A pickle of all clips, or of other content."""
    split = {"xsub_train": NAMES[:1], "xsub_val": NAMES[1:], "xview_train": NAMES[2:]}
    whole = {"split": split, "annotations": annotations(BODIES)} | others
    path.write_bytes(pickle.dumps(whole if content is None else content, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_keypoints_are_prepared_as_the_raw_clips_rounded(tmp_path, protocol):
    clips = prepared(tmp_path, "pyskl", pyskl(tmp_path / "a.pkl", protocol=protocol))
    assert clips.name.tolist() == NAMES
    assert clips.label.tolist() == [0, 1, 2]
    assert (clips.setup.tolist(), clips.camera.tolist()) == ([1, 1, 2], [1, 2, 3])
    assert (clips.subject.tolist(), clips.replication.tolist()) == ([1, 3, 8], [1, 2, 1])
    assert {name: side.tolist() for name, side in clips.splits.items()} == {
        "xsub": [1, 0, 0],
        "xview": [-1, -1, 1],
    }
    for index, bodies in enumerate(BODIES.values()):
        rounded = largest_bodies(bodies.astype(np.float16).astype(float), 2)
        assert frames(clips, index).tobytes() == released(rounded, KINECT_V2).tobytes()


def test_other_names_and_lists_and_no_list_are_fine(tmp_path):
    mine = {"b/2": BODIES[NAMES[1]], "a.1": BODIES[NAMES[0]]}
    entries = [
        {"frame_dir": name, "label": np.int64(i), "keypoint": bodies.astype(np.float32)}
        for i, (name, bodies) in enumerate(mine.items())
    ]
    split = {"train": ["a.1"], "val": ["b/2"], "test": ["b/2"], "all": ["a.1", "b/2"]}
    path = pyskl(tmp_path / "mine.pkl", annotations=entries, split=split)
    clips = prepared(tmp_path, "pyskl", path)
    assert clips.name.tolist() == ["a.1", "b/2"]
    assert clips.label.tolist() == [1, 0]
    assert {name: side.tolist() for name, side in clips.splits.items()} == {"mine.pkl": [1, 0]}
    assert not clips.subject.any()
    pyskl(path, {"annotations": entries})
    assert not prepared(tmp_path, "pyskl", path).splits


ONE = annotations({NAMES[0]: BODIES[NAMES[0]]})[0]
JOINTS = {n: {**ONE, "keypoint": ONE["keypoint"][:, :, :n].copy()} for n in (9, 17)}
FLAT = {**ONE, "keypoint": ONE["keypoint"][..., :2].copy()}
SCORED = {**FLAT, "keypoint_score": ONE["keypoint"][..., 0].copy()}
OLD = {**ONE, "keypoint": np.zeros((3, 300, 25, 2), np.float32)}
PYSKL_DECOYS = {
    "a list": ([OLD], "a list, as MMAction2 before 1.0 wrote it"),
    "raw": ([{"name": "a", "data": {}}], "a list; is it raw_skes_data.pkl of CTR-GCN's tool"),
    "lists in lists": (
        {"annotations": [ONE], "split": {"xsub_train": [["a"], {}]}},
        "its split xsub_train is not a list of names",
    ),
    "prepared": ({"annotations": [OLD]}, "keypoints (3, 300, 25, 2), as MMAction2 before 1.0"),
    "9 joints": ({"annotations": [JOINTS[9]]}, "9 joints, where layout kinect-v2 has 25"),
    "17 joints": ({"annotations": [JOINTS[17]]}, "17 joints, where layout kinect-v2 has 25"),
    "2D": ({"annotations": [FLAT]}, f"annotations[0] ({NAMES[0]}) has 2D keypoints"),
    "scored": ({"annotations": [SCORED]}, f"annotations[0] ({NAMES[0]}) has 2D keypoints"),
    "labels of AGCN": ((["a"], [0]), "not a dict with a list of annotations"),
    "split": ({"annotations": [], "split": []}, "its split is not a dict of lists of names"),
    "both sides": (
        {"annotations": [], "split": {"xsub_train": ["a"], "xsub_test": ["a"]}},
        "a is on both sides of the split xsub",
    ),
}


@pytest.mark.parametrize(("content", "message"), PYSKL_DECOYS.values(), ids=PYSKL_DECOYS)
def test_what_is_no_pickle_of_pyskls_is_refused(tmp_path, content, message):
    assert message in refusal(tmp_path, "pyskl", pyskl(tmp_path / "a.pkl", content))


@pytest.mark.parametrize("name", ["zarr.json", "..", "a\0", "a\ud800", "a" * 300, "é" * 150])
def test_a_list_that_cannot_be_in_a_store_is_refused(tmp_path, name):
    path = pyskl(tmp_path / "a.pkl", {"annotations": [ONE], "split": {f"{name}_train": NAMES}})
    with pytest.raises(UserError, match=r"its side \('.*', 1\) is not a split list's name"):
        prepared(tmp_path, "pyskl", path)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (lambda path: path.write_bytes(b"PK\3\4"), "a zip archive"),
        (lambda path: path.write_text("clips"), "a text file"),
        (lambda path: path.mkdir(), "not a file"),
    ],
)
def test_what_is_no_pickle_at_all_is_refused_before_it_is_read(tmp_path, write, kind):
    write(tmp_path / "a.pkl")
    with pytest.raises(ArchiveError, match=f"a.pkl: {kind}, where a pickle of Python is due"):
        archive.check(tmp_path / "a.pkl", pickled=True)
    archive.check(pyskl(tmp_path / "b.pkl"), pickled=True)


def test_annotations_that_cannot_be_used_are_named(tmp_path):
    wrong = [
        ({"label": 60}, f"unknown label 60 of {NAMES[0]}: the dataset has 0 to 59"),
        ({"keypoint": None}, f"the keypoint of {NAMES[0]} is not an array of floats"),
        ({"keypoint": np.zeros((0, 4, 25, 3), "f2")}, "is (0, 4, 25, 3), not (bodies, frames"),
        ({"frame_dir": None}, "its annotation has no frame_dir, the clip's name"),
    ]
    wrong += [({"frame_dir": "b\ud800\n"}, "a name with control characters")]
    entries = [None, "x", *({**ONE, **change} for change, _ in wrong)]
    with pytest.raises(BrokenClips) as error:
        prepared(tmp_path, "pyskl", pyskl(tmp_path / "a.pkl", {"annotations": entries}))
    broken = error.value.broken
    assert [entry.clip for entry in broken] == [
        *(f"annotations[{i}]" for i in range(6)),
        r"b\ud800\n",
    ]
    assert [entry.stops for entry in broken] == [False] + [True] * 6
    for entry, reason in zip(
        broken, ["is None", "is not a dict", *(reason for _, reason in wrong)], strict=True
    ):
        assert reason in entry.reason


# ---- As a user would -----------------------------------------------------------------------------

PAGE = {
    notes.removeprefix("file="): text
    for notes, text in blocks("docs/formats.md", "yaml")
    if notes.startswith("file=datasets/ntu60-")
}


def make(format: str, folder: Path, names: list[str]) -> None:
    """The archives under these names."""
    if format == "agcn":
        clips = {n: released(largest_bodies(b, 2), KINECT_V2) for n, b in BODIES.items()}
        agcn(folder / names[0], clips)
    elif format == "ctrgcn":
        ctrgcn(folder / names[0], list(BODIES.values()), [person(9, 9)])
    else:
        pyskl(folder / names[0])


@pytest.mark.parametrize("file", PAGE)
def test_the_datasets_of_the_page_run_through_raw_and_prepare(file, tmp_path, monkeypatch):
    dataset = Path(file).stem
    described = yaml.safe_load(PAGE[file])
    (tmp_path / "archives").mkdir()
    make(described["format"], tmp_path / "archives", described["archives"]["skeletons"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    shutil.copytree(ROOT / "datasets", "datasets")
    Path(file).write_text(PAGE[file])
    p = yaml.safe_load((ROOT / "params.yaml").read_text())
    p["sources"][dataset] = "archives"
    Path("params.yaml").write_text(yaml.safe_dump(p))
    raw.main(dataset)
    assert "3 clips" in prepare_stage.main(dataset) or described["format"] == "ctrgcn"
    clips = store.read(f"data/{dataset}.zarr")
    for name, protocol in described["protocols"].items():
        train, _ = protocols.split(clips, protocol, name=name, testless=True)
        assert len(train)


def test_the_page_has_a_dataset_of_each_form():
    assert {yaml.safe_load(text)["format"] for text in PAGE.values()} == {"agcn", "ctrgcn", "pyskl"}


# ---- Real samples --------------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path):
    """The folder of real samples, and the clips of the same 17 from the archive."""
    if not (REAL / "arrays").exists():
        pytest.skip(f"no {REAL}/arrays")
    (tmp_path / "archive").mkdir()
    clips = prepared(tmp_path / "archive", "ntu", REAL / "arrays/raw.zip", REAL / "ntu")
    assert len(clips) == 17
    return REAL / "arrays", clips


@pytest.mark.parametrize("protocol", ["xsub", "xview"])
def test_agcns_real_clips_are_ours_bit_for_bit(tmp_path, real, protocol):
    folder, ours = real
    clips = prepared(tmp_path, "agcn", folder / "agcn" / protocol)
    assert clips.frames.tobytes() == ours.frames.tobytes()
    for field in ("offsets", "name", *store.FIELDS):
        np.testing.assert_array_equal(getattr(clips, field), getattr(ours, field))
    rule = {"xsub": TRAIN, "xview": {"camera": [2, 3]}}[protocol]
    for side, other in zip(
        protocols.split(clips, {"split": protocol}),
        protocols.split(clips, {"train": rule}),
        strict=True,
    ):
        np.testing.assert_array_equal(side, other)


@pytest.mark.parametrize(("file", "side"), [("NTU60_CS", "test"), ("NTU60_CV", "train")])
def test_ctr_gcns_real_clips_are_within_a_micrometre(tmp_path, real, file, side):
    """All of them; the file has the persons of A050 and A055 in the other order."""
    folder, ours = real
    clips = prepared(tmp_path, "ctrgcn", folder / "ctrgcn" / f"{file}.npz")
    assert clips.name.tolist() == [f"{file}-{side}-{i:06}" for i in range(11)]
    names = ours.name.tolist()
    for index in range(11):
        other = names.index(f"S017C003P020R002A{50 + index:03}")
        assert clips.label[index] == ours.label[other]
        np.testing.assert_allclose(frames(clips, index), frames(ours, other), rtol=0, atol=1e-6)


def test_pyskls_real_clips_are_within_two_centimetres(tmp_path, real):
    """But S001C001P003R002A005, of which pyskl drops a body that does not move."""
    folder, ours = real
    clips = prepared(tmp_path, "pyskl", folder / "pyskl/ntu60_3danno.pkl")
    for field in ("offsets", "name", *store.FIELDS):
        np.testing.assert_array_equal(getattr(clips, field), getattr(ours, field))
    other = []
    for index, name in enumerate(clips.name):
        pair = frames(clips, index), frames(ours, index)
        if pair[0].any(axis=(0, 2, 3)).tolist() != pair[1].any(axis=(0, 2, 3)).tolist():
            other.append(name)
            pair = pair[0][:, 0], pair[1][:, 0]
        assert np.linalg.norm(pair[0] - pair[1], axis=-1).max() < 0.016
    assert other == ["S001C001P003R002A005"]
    for name, rule in (("xsub", TRAIN), ("xview", {"camera": [2, 3]})):
        expected = np.isin(np.arange(17), protocols.split(clips, {"train": rule})[0])
        np.testing.assert_array_equal(clips.splits[name], expected)


def test_an_array_of_another_sensor_is_refused(tmp_path, real):
    folder, _ = real
    message = refusal(tmp_path, "agcn", folder / "agcn/xsub", layout=KINECT_V1)
    assert "25 joints, where layout kinect-v1 has 20" in message
