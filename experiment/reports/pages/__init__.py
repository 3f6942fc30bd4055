"""Pages on which clips play in a browser: one HTML file each, which needs no network.

A page is a template of this folder, with the style and the script that all pages share, and what
there is to show as JSON. A clip on a page has fewer frames than the store's and coarser
coordinates, so that a file with thousands of clips opens at once.
"""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiment.artifacts import Scores
from skeletons.clips.layout import Layout
from skeletons.clips.store import Clips

FRAMES = 24  # of a clip on a page at most, evenly spaced
LEVELS = 255  # of a coordinate, counted from the clip's lowest one; `ABSENT` is none of them
ABSENT = 255  # each coordinate of a body that is not in a frame
OF_ACTION = 24  # clips of an action on a dataset's page, evenly spaced among them
GUESSES = 3  # of the classifier, the likeliest
SHARED = ("page.css", "controls.html", "player.js")
_FOLDER = Path(__file__).parent


def fill(template: str, data: dict[str, Any]) -> str:
    """The page of a template (`run.html`, `dataset.html`) with this data."""
    page = (_FOLDER / template).read_text()
    # In HTML a script ends at the first "</script", whatever the JSON around it means.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    for name in SHARED:
        page = page.replace(f"{{{{{name}}}}}", (_FOLDER / name).read_text())
    return page.replace("{{data}}", text)


def dataset(clips: Clips) -> dict[str, Any]:
    """Contents of a dataset's page: some clips of every action, and how large the dataset is."""
    chosen: list[int] = []
    for action in np.unique(clips.label):
        of_action = np.flatnonzero(clips.label == action)
        count = min(OF_ACTION, len(of_action))
        chosen += of_action[np.linspace(0, len(of_action) - 1, count).round().astype(int)].tolist()
    return {
        "skeleton": skeleton(clips.layout),
        "clips": len(clips),
        "counts": {
            "actions": len(np.unique(clips.label)),
            "subjects": len(np.unique(clips.subject)),
            "cameras": len(np.unique(clips.camera)),
        },
        "shown": [playing(clips, clip) for clip in sorted(chosen)],
    }


def run(mapped: dict[str, Any], scores: Scores, confusion: NDArray[np.int64]) -> dict[str, Any]:
    """Contents of a run's page: its map, the linear classifier's guesses for each clip, and the
    confusion matrix (classes, classes) of all test clips.
    """
    logits = scores.scores[np.searchsorted(scores.clip, [clip["clip"] for clip in mapped["test"]])]
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    likeliest = np.argsort(-shares, axis=1, kind="stable")[:, :GUESSES]
    return mapped | {
        "confusion": [[i, j, int(confusion[i, j])] for i, j in np.argwhere(confusion).tolist()],
        "test": [
            clip
            | {
                "map": np.round(clip["map"], 2).tolist(),
                "guesses": [[action, round(float(share[action]), 3)] for action in actions],
            }
            for clip, share, actions in zip(mapped["test"], shares, likeliest.tolist(), strict=True)
        ],
    }


def playing(clips: Clips, clip: int) -> dict[str, Any]:
    """A clip of a store: its name, what the name says, and how it moves."""
    frames = clips.clip(clip)
    return {
        "name": str(clips.name[clip]),
        "label": int(clips.label[clip]),
        "subject": int(clips.subject[clip]),
        "camera": int(clips.camera[clip]),
        "frames": len(frames),
        "motion": motion(frames),
    }


def motion(clip: NDArray[np.float32]) -> dict[str, Any]:
    """A prepared clip (T, M, V, 3) in metres as a page has it.

    `bytes` are the coordinates (frames, bodies, V, 3) uint8 in base64; a coordinate is
    `low` + `step` * byte. Bodies that are in no frame are left out, if they are the last. Two
    bodies have `across`, the direction to the right at first, as one may hide the other from the
    front.
    """
    present = np.asarray(clip.any(axis=(2, 3)))
    bodies = max(1, clip.shape[1] - int(np.flip(present.any(axis=0)).argmax()))
    moments = np.linspace(0, len(clip) - 1, min(FRAMES, len(clip))).round().astype(int)
    kept, present = clip[moments, :bodies], present[moments, :bodies]
    seen = kept[present] if present.any() else np.zeros((1, 1, 3), np.float32)
    low = seen.min(axis=(0, 1))
    step = max(float((seen - low).max()) / (LEVELS - 1), 1e-6)
    levels = ((kept - low) / step).round()
    levels[~present] = ABSENT
    across = to_second(clip)
    return {
        "frames": len(kept),
        "bodies": bodies,
        "low": [round(float(v), 4) for v in low],
        "step": float(f"{step:.6g}"),
        "bytes": b64encode(levels.astype(np.uint8).tobytes()).decode(),
        **({} if across is None else {"across": across.round(2).tolist()}),
    }


def to_second(clip: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The horizontal direction (x, y) from the first to the second body of a clip (T, M, V, 3), on
    the mean of the frames that have both; None if none has, or they are in one place.
    """
    both = clip[clip.any(axis=(2, 3)).sum(axis=1) == 2, ..., :2]
    way = (both[:, 1] - both[:, 0]).sum(axis=(0, 1)) if len(both) else np.zeros(2, np.float32)
    return way / np.linalg.norm(way) if way.any() else None


def skeleton(layout: Layout) -> dict[str, Any]:
    """The part of a layout that a page needs to draw it."""
    return {
        "name": layout.name,
        "joints": layout.joints,
        "parents": layout.parents,
        "swap": layout.swap,
        "centre": layout.centre,
    }


def actions(classes: int, names: list[str]) -> list[str]:
    """Titles of the actions: a number, counted from 1, and a name if there are `names`."""
    return [
        f"{number} {names[number - 1]}" if names else f"action {number}"
        for number in range(1, classes + 1)
    ]
