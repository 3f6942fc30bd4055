"""Contents of the pages of runs and datasets: clips as in the store, a run's own answers."""

import json
import re
from base64 import b64decode
from typing import Any, NamedTuple

import numpy as np
import pytest
from layouts import KINECT_V2

from experiment.artifacts import Features, Scores
from experiment.reports import feature_map, pages
from learning.probing.scores import confusion
from skeletons.clips.store import Clips

ACTIONS = 4


class Made(NamedTuple):
    """A dataset of random walks, every other clip for training, and a run on it."""

    clips: Clips
    train: Features
    test: Features
    scores: Scores

    def page(self) -> dict[str, Any]:
        """Contents of the run's page."""
        mapped = feature_map.content(self.clips, self.train, self.test, seed=0)
        matrix = confusion(self.scores.scores.argmax(1), self.scores.label, ACTIONS)
        return pages.run(mapped, self.scores, matrix)


def made(count: int = 48, *, seed: int = 0) -> Made:
    rng = np.random.default_rng(seed)
    lengths = 10 + np.arange(count) % 40
    offsets = np.concatenate([[0], lengths.cumsum()])
    joints = np.array([place for _, place in KINECT_V2.rest], np.float32)
    joints = np.resize(joints, (KINECT_V2.joints, 3))[:, [0, 2, 1]]
    frames = np.zeros((offsets[-1], 2, KINECT_V2.joints, 3), np.float32)
    frames[:, 0] = joints + rng.normal(0, 0.05, (offsets[-1], KINECT_V2.joints, 3))
    for clip in range(0, count, 5):  # of a second body, which comes late
        frames[offsets[clip] + 3 : offsets[clip + 1], 1] = 0.5 + joints
    label = (np.arange(count) % ACTIONS).astype(np.int32)
    clips = Clips(
        frames=frames,
        offsets=offsets,
        label=label,
        subject=(np.arange(count) // ACTIONS % 6 + 1).astype(np.int32),
        camera=np.ones(count, np.int32),
        setup=np.ones(count, np.int32),
        replication=np.ones(count, np.int32),
        name=np.array([f"C{clip:03}" for clip in range(count)]),
        raw_frames=lengths.astype(np.int32),
        splits={},
        layout=KINECT_V2,
        classes=ACTIONS,
    )
    sides = []
    for first in (1, 0):
        rows = np.arange(first, count, 2)
        both = (rng.normal(label[rows, None], 1, (len(rows), 8)).astype(np.float32) for _ in "ab")
        sides.append(Features(rows, label[rows].astype(np.int64), *both))
    train, test = sides
    scores = rng.normal(3 * np.eye(ACTIONS)[test.label], 2).astype(np.float32)
    return Made(clips, train, test, Scores(test.clip, test.label, scores))


def decoded(motion: dict[str, Any]) -> np.ndarray:
    """The coordinates (frames, bodies, V, 3) of a clip on a page, NaN for a body that is absent."""
    levels = np.frombuffer(b64decode(motion["bytes"]), np.uint8)
    levels = levels.reshape(motion["frames"], motion["bodies"], -1, 3).astype(float)
    levels[(levels == pages.ABSENT).all(axis=(2, 3))] = np.nan
    return np.array(motion["low"]) + motion["step"] * levels


@pytest.mark.parametrize("frames", [1, pages.FRAMES, 299])
def test_a_clip_on_a_page_is_the_clip_to_half_a_step(frames: int) -> None:
    rng = np.random.default_rng(frames)
    clip = rng.uniform(-1.5, 1.5, (frames, 2, 25, 3)).astype(np.float32)
    clip[0, 1] = 0
    motion = pages.motion(clip)
    moments = np.linspace(0, frames - 1, min(frames, pages.FRAMES)).round().astype(int)
    expected = clip[moments, : motion["bodies"]].astype(float)
    expected[~expected.any(axis=(2, 3))] = np.nan
    assert motion["bodies"] == (1 if frames == 1 else 2)
    assert motion["step"] < 3.01 / 254
    np.testing.assert_allclose(decoded(motion), expected, atol=motion["step"] / 2 + 1e-4)


def test_two_people_are_first_seen_from_the_side() -> None:
    clip = np.random.default_rng(0).normal(size=(30, 2, 25, 3)).astype(np.float32)
    clip[3:, 1] = clip[3:, 0] + np.array([-3, 4, 1], np.float32)
    clip[:3, 1] = 0
    assert pages.motion(clip)["across"] == [pytest.approx(-0.6), pytest.approx(0.8)]
    clip[:, 1] = clip[:, 0]
    assert "across" not in pages.motion(clip) | pages.motion(clip[:, :1])


def test_an_absent_body_takes_no_room() -> None:
    clip = np.random.default_rng(0).normal(size=(30, 2, 25, 3)).astype(np.float32)
    clip[:, 1] = 0
    motion = pages.motion(clip)
    assert motion["bodies"] == 1
    assert len(b64decode(motion["bytes"])) == pages.FRAMES * 25 * 3
    nothing = pages.motion(np.zeros((3, 2, 25, 3), np.float32))
    assert np.isnan(decoded(nothing)).all()


@pytest.mark.parametrize("template", ["run.html", "dataset.html"])
def test_a_page_holds_its_data_and_asks_for_nothing_else(template: str) -> None:
    data = {"actions": ["</script><b>", "écrire {{page.css}}"]}
    page = pages.fill(template, data)
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert [json.loads(text) for text in found] == [data]
    assert not re.findall(r"(?:src|href)=|@import|url\(|https?:", page)


def test_a_run_page_says_what_the_run_says() -> None:
    run = made()
    _, train, test, scores = run
    shown = run.page()
    assert [clip["name"] for clip in shown["test"]] == [f"C{clip:03}" for clip in test.clip]
    for row, clip in enumerate(shown["test"]):
        chance = np.exp(scores.scores[row]) / np.exp(scores.scores[row]).sum()
        best = (-chance).argsort()[:3]
        assert clip["guesses"] == [[a, pytest.approx(chance[a], abs=6e-4)] for a in best]
        query = test.features[row] / np.linalg.norm(test.features[row])
        distance = [1 - query @ other / np.linalg.norm(other) for other in train.features]
        nearest = np.argsort(distance)[:3]
        names = [shown["train"][place]["name"] for place, _ in clip["near"]]
        assert names == [f"C{train.clip[n]:03}" for n in nearest]
        expected = [pytest.approx(distance[n], abs=6e-4) for n in nearest]
        assert [d for _, d in clip["near"]] == expected
    cells = {(i, j): n for i, j, n in shown["confusion"]}
    predicted = scores.scores.argmax(1)
    for cell in np.ndindex(ACTIONS, ACTIONS):
        count = ((test.label == cell[0]) & (predicted == cell[1])).sum()
        assert cells.get(cell, 0) == count


def test_a_map_of_some_test_clips_has_those_alone_and_the_matrix_has_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = made(50)
    whole = run.page()
    monkeypatch.setattr(feature_map, "MAPPED", 9)
    shown = run.page()
    own = ("name", "label", "guesses", "motion")
    some, all_of_it = ([[clip[k] for k in own] for clip in page["test"]] for page in (shown, whole))
    assert some == all_of_it[::3]
    assert shown["confusion"] == whole["confusion"]
    used = {place for clip in shown["test"] for place, _ in clip["near"]}
    assert used == set(range(len(shown["train"])))


def test_a_dataset_page_has_clips_of_every_action() -> None:
    clips = made(300).clips
    shown = pages.dataset(clips)["shown"]
    labels = [clip["label"] for clip in shown]
    assert {a: labels.count(a) for a in range(ACTIONS)} == dict.fromkeys(range(ACTIONS), 24)
    assert [clip["name"] for clip in shown] == sorted(clip["name"] for clip in shown)


def test_a_page_of_two_thousand_clips_and_their_neighbours_is_below_30_mb() -> None:
    """NTU-60: no clip is a neighbour of two, and a fifth of the clips have two people."""
    shown = made(100).page()
    clip = len(json.dumps(shown)) / (len(shown["test"]) + len(shown["train"]))
    assert 2000 * 4 * clip < 28e6
