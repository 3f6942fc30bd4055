"""NW-UCLA's JSON: clips as written, each fault with its message; the real clips where there are."""

import json
import zipfile
from pathlib import Path

import numpy as np
import nwucla_archive
import pytest
import yaml
import zarr
from clone import LINKED, TINY, update
from hypothesis import example, given, settings
from hypothesis import strategies as st
from layouts import KINECT_V1, KINECT_V2
from specimens import damaged, frames, prepared

from experiment.parameters import params, presets
from model.network.encoder import load_encoder
from skeletons import formats, sensors
from skeletons.archives.recordings import LARGEST_RAW, BrokenClip, Clip, Source
from skeletons.clips import protocols, store
from skeletons.clips.layout import Layout
from skeletons.formats import nwucla
from skeletons.preparing import summary
from skeletons.preparing.job import Job
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.normalise import upright
from stages import dataset_page, embed, pretrain, raw
from stages import prepare as prepare_stage
from stages import view_pictures as views

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real" / "nwucla" / "all_sqe.zip"
JOINTS = 2
PAIR = Layout("pair", JOINTS, 1, ((1, 0),), (0, 1), 0, (0, 1), (0, 1), ())
CLIP = {"file_name": "a08_s01_e00_v03", "skeletons": [[[1, 2.5, -3], [4, 5, 6]]] * 2, "label": 7}


def text(**fields):
    """The JSON of a good clip with other fields; a field that is ... is left out."""
    return json.dumps({k: v for k, v in {**CLIP, **fields}.items() if v is not ...}).encode()


def parse(data):
    return nwucla.parse(data, joints=JOINTS, classes=10)


def test_label_and_coordinates_are_those_of_the_file():
    label, body = parse(text())
    assert label == 6
    assert body.tolist() == [[[1, 2.5, -3], [4, 5, 6]]] * 2


def test_clips_are_named_by_their_files_and_labelled_by_their_content(tmp_path):
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as file:
        for name in ("a12_s10_e04_v03", "a02_s01_e00_v01", "a02_s01_e00_v01 (1)", "a2_s1_e0_v1"):
            file.writestr(f"clips/{name}.json", text())
    recordings, broken = formats.plan("nwucla", Source([tmp_path / "clips.zip"], 10))
    clips = [recording.clips[0] for recording in recordings]
    assert clips == [
        Clip("a02_s01_e00_v01", 0, subject=1, camera=1, replication=0),
        Clip("a12_s10_e04_v03", 0, subject=10, camera=3, replication=4),
    ]
    assert {entry.clip for entry in broken} == {"a02_s01_e00_v01 (1)", "a2_s1_e0_v1"}
    assert {entry.reason for entry in broken} == {"the name is not aAA_sSS_eEE_vVV"}
    ((clip, bodies),) = nwucla.read(text(label=10), recordings[1], layout=PAIR, classes=10)
    assert clip == clips[1]._replace(label=9)
    assert bodies.shape == (1, 2, JOINTS, 3)


def joint(*values):
    """A clip of one frame whose second joint has these values, JSON's NaN and Infinity included."""
    return text(skeletons=[[[1, 2, 3], list(values)]])


FAULTS = {
    "empty": (b"", 1, "not JSON: Expecting value"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1, "not JSON: not UTF-8"),
    "latin-1": (b'{\n"file_name": "\xe9"}', 2, "not JSON: not UTF-8"),
    "truncated": (text()[:-20], 1, "not JSON: Expecting"),
    "line": (b'{"label": 1,\n"skeletons": [[[1,,2]]]}', 2, "not JSON: Expecting value"),
    "twice": (text() + b"\n" + text(), 2, "not JSON: Extra data"),
    "list": (b"[1, 2]", None, "not an object with label and skeletons"),
    "number": (b"7", None, "not an object"),
    "no label": (text(label=...), None, "no label"),
    "no skeletons": (text(skeletons=...), None, "no skeletons"),
    "label 0": (text(label=0), None, "unknown label 0: the dataset has 1 to 10"),
    "label 11": (text(label=11), None, "unknown label 11"),
    "label text": (text(label="7"), None, "unknown label '7'"),
    "label float": (text(label=7.0), None, "unknown label 7.0"),
    "label true": (text(label=True), None, "unknown label True"),
    "label null": (text(label=None), None, "unknown label None"),
    "long label": (b'{"skeletons": [], "label": ' + b"7" * 5000 + b"}", None, "unknown label inf"),
    "no frame": (text(skeletons=[]), None, "0 frames"),
    "skeletons text": (text(skeletons="no"), None, "skeletons is not a list of frames"),
    "skeletons null": (text(skeletons=None), None, "skeletons is not a list of frames"),
    "frame": (text(skeletons=[[[1, 2, 3]] * 2, 5]), None, "frame 2 is not a list of joints"),
    "ragged": (
        text(skeletons=[[[1, 2, 3]] * 2, [[1, 2, 3]]]),
        None,
        "1 joint in frame 2 where the layout has 2",
    ),
    "joint count": (text(skeletons=[[[1, 2, 3]] * 25]), None, "25 joints in frame 1 where"),
    "joint": (joint(1, 2), None, "joint 2 in frame 1 is not x, y, z"),
    "joint text": (text(skeletons=[["ab", "cd"]]), None, "joint 1 in frame 1 is not x, y, z"),
    "nan": (joint(1, float("nan"), 3), None, "the coordinate nan of joint 2 in frame 1 is no len"),
    "infinite": (joint(1, float("-inf"), 3), None, "the coordinate -inf of joint 2"),
    "far": (joint(1e300, 2, 3), None, "the coordinate 1e+300 of joint 2"),
    "millimetres": (joint(310500, 2, 3), None, "the coordinate 310500 of joint 2"),
    "underscore": (b'{"label": 1, "skeletons": [[[1_0.5, 2, 3]]]}', 1, "not JSON"),
    "very far": (joint(10**400, 2, 3), None, "the coordinate inf of joint 2"),
    "text": (joint("1", 2, 3), None, "the coordinate '1' of joint 2"),
    "true": (joint(1, 2, True), None, "the coordinate True of joint 2"),
    "list of lists": (joint(1, 2, [3]), None, "the coordinate [3] of joint 2"),
    "two hours": (
        text(skeletons=[[[1, 2, 3]] * 2] * 18_001),
        None,
        "18001 frames, where 18000 is the most; cut it into clips",
    ),
    "lists": (
        b'{"label": 1, "skeletons": [' + b"[]," * 72_000 + b"[]]}",
        None,
        "more lists than 18000 frames have, the most",
    ),
    "no body": (text(skeletons=[[[0, 0, 0]] * 2] * 3), None, "no body: all coordinates are zero"),
}


@pytest.mark.parametrize(("data", "line", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_broken_file_is_refused_with_the_reason_and_the_line_if_known(data, line, reason):
    with pytest.raises(BrokenClip) as error:
        parse(data)
    assert reason in error.value.reason
    assert error.value.line == line


def test_lists_within_lists_are_refused_however_many_a_python_reads():
    """Its limit, where it has one, is reached before the end of the text."""
    with pytest.raises(BrokenClip) as error:
        parse(b"[" * 50_000 + b"]" * 50_000)
    assert error.value.reason in (
        "not JSON of a clip: lists within too many lists",
        "not an object with label and skeletons",
    )


# ---- Any bytes -----------------------------------------------------------------------------------

numbers = st.sampled_from([0, 1, 7, 10, 11, -2.5, 1e-7, 99.5, 100, float("nan"), 10**30])
things = numbers | st.sampled_from([None, True, "7", "\ud800\n", [], {}, [[1]], {"label": 1}])
triples = st.lists(numbers, min_size=3, max_size=3)
joints = st.lists(triples | things, min_size=1, max_size=3)
fields = st.fixed_dictionaries(
    {}, optional={"label": things, "skeletons": things | st.lists(joints | things, max_size=3)}
)


def plain(data):
    """Label and body of a valid clip by checks of one value at a time; None for any other."""
    try:
        clip = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(clip, dict) or not {"label", "skeletons"} <= set(clip):
        return None
    label, body = clip["label"], clip["skeletons"]
    if isinstance(label, bool) or not isinstance(label, int) or label not in range(1, 11):
        return None
    if not isinstance(body, list) or not body:
        return None
    for frame in body:
        if not isinstance(frame, list) or len(frame) != JOINTS:
            return None
        for place in frame:
            if not isinstance(place, list) or len(place) != 3:
                return None
            for x in place:
                if (
                    isinstance(x, bool)
                    or not isinstance(x, int | float)
                    or not abs(x) < LARGEST_RAW
                ):
                    return None
    if not any(x for frame in body for place in frame for x in place):
        return None
    return label - 1, body


@settings(max_examples=400, deadline=None)
@given(fields.map(json.dumps).map(str.encode) | damaged(st.just(text())))
@example(b'{"a":' * 20_000)
@example(b'{"label": 1, "skeletons": [[[' + b"[" * 980 + b"]" * 980 + b", 1, 2], [1, 2, 3]]]}")
@example(b"\xef\xbb\xbf" + text())
@example(text().decode().encode("utf-16"))
def test_any_bytes_are_a_valid_clip_or_the_one_error(data):
    try:
        label, body = parse(data)
    except BrokenClip:
        assert plain(data) is None
    else:
        assert plain(data) == (label, body.tolist())


# ---- The real clips ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The store of the real clips, prepared as params.yaml says."""
    if not REAL.exists():
        pytest.skip(f"no {REAL}")
    folder = tmp_path_factory.mktemp("real")
    p = params.checked(presets.values("nwucla"), datasets=ROOT / "datasets")
    entry = p.datasets["nwucla"]
    job = Job(
        Recipe(layout=sensors.layout(**p.datasets["nwucla"].sensor), **p.recipe("nwucla")),
        skeletons=[REAL.parent / name for name in entry.archives.skeletons],
        expected={"clips": entry.archives.clips, "cameras": entry.archives.cameras},
        require_complete=True,
    )
    report, clips = prepared(folder, job)
    assert not report.broken
    rules = {name: protocol.rule for name, protocol in entry.protocols.items()}
    measures = summary.measure(folder / "out.zarr", KINECT_V1, report.absent_joints)
    found = summary.summarise(folder / "out.zarr", report, measures)
    return clips, rules, found, list(summary.warnings(found, measures, KINECT_V1))


def test_the_real_archive_has_the_published_sizes(real):
    clips, rules, *_ = real
    assert len(clips) == 1484
    assert clips.frames.shape[1:] == (1, 20, 3)
    assert (np.diff(clips.offsets) == clips.raw_frames).all()
    assert [len(side) for side in protocols.split(clips, rules["xview"])] == [1020, 464]
    train, test = (set(side.tolist()) for side in protocols.split(clips, rules["val"]))
    assert (len(train), len(test)) == (723, 297)
    assert train | test == set(protocols.split(clips, rules["xview"])[0].tolist())
    assert not set(clips.subject[list(train)]) & set(clips.subject[list(test)])
    assert set(clips.label.tolist()) == set(range(10))


def test_the_real_archive_is_of_people_with_these_joints(real):
    _, _, found, warnings = real
    assert warnings == []
    assert (found.bodies_kept, found.bodies_dropped, found.frames_without_body) == (1484, 0, 0)
    assert 1.4 < found.height < 1.6


def test_a_real_clip_is_prepared_by_the_rules_one_by_one(real):
    clips, *_ = real
    name = "a12_s06_e04_v03"
    with zipfile.ZipFile(REAL) as archive:
        raw = json.loads(archive.read(f"all_sqe/{name}.json"))
    at = clips.name.tolist().index(name)
    expected = upright(np.array(raw["skeletons"])[None], KINECT_V1)
    np.testing.assert_allclose(frames(clips, at), expected, rtol=0, atol=2e-5)
    assert clips.label[at] + 1 == raw["label"] == 10
    assert (clips.subject[at], clips.replication[at], clips.camera[at]) == (6, 4, 3)


# ---- The stages ----------------------------------------------------------------------------------


def test_network_and_pictures_follow_the_layout(tmp_path, monkeypatch):
    """The stages of the preset on a few random clips: one body of 20 joints from end to end."""
    p = presets.values("nwucla")
    update(p, TINY)
    update(p, {"views": {"temporal_mask": {"probability": 1.0, "kind": "energy", "weight": 0.5}}})
    p["supervised_runs"] = {}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(p))
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    nwucla_archive.write(Path("archives/all_sqe.zip"))
    for stage, key in (
        *((raw, "nwucla"), (prepare_stage, "nwucla")),
        *((views, "nwucla"), (dataset_page, "nwucla")),
        *((pretrain, "nwucla-xview-bone"), (embed, "nwucla-xview-bone")),
    ):
        stage.main(key)
    clips = store.read("data/nwucla.zarr")
    assert clips.frames.shape[1:] == (1, 20, 3)
    assert 1 in np.diff(clips.offsets)
    encoder = load_encoder("data/weights/nwucla-xview-bone.pt")
    assert encoder.architecture["bodies"] == 1
    assert encoder.architecture["parents"] == KINECT_V1.parents
    features = zarr.open_group("data/features/nwucla-xview-bone.zarr", mode="r")
    assert features["test/features"].shape == (24, 2 * TINY["encoder"]["dim"])
    assert set(clips.camera[features["test/clip"][:]]) == {3}
    assert Path("data/figures/nwucla-views.png").stat().st_size > 10_000


def test_a_layout_of_two_bodies_gets_an_empty_second_one(tmp_path):
    body = np.random.default_rng(0).normal(size=(3, KINECT_V2.joints, 3))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a01_s01_e01_v01.json").write_bytes(text(skeletons=body.tolist()))
    _, clips = prepared(tmp_path, Job(Recipe("nwucla", KINECT_V2, 10), [tmp_path / "raw"]))
    assert clips.frames.shape == (3, 2, KINECT_V2.joints, 3)
    assert clips.frames[:, 0].any()
    assert not clips.frames[:, 1].any()
