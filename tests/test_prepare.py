"""Preparing a dataset: the same bytes whatever happens, and one line for whatever cannot be."""

import contextlib
import csv
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from filelock import FileLock
from layouts import KINECT_V2

from errors import UserError
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import Broken, Clip, Recording
from skeletons.clips import store
from skeletons.preparing import workers
from skeletons.preparing.job import BrokenClips, Job, Plan, _leave_out
from skeletons.preparing.job import prepare as prepare_job
from skeletons.preparing.make_clips import Recipe
from skeletons.preparing.workers import start_workers

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
EDGE = sorted((GOLDEN / "edge").glob("*.skeleton"))
SMALL = {"group": 150_000, "shard": 100}  # several of each from a few clips


def arguments(folder, source, **others):
    """What `prepare` is called with for NTU clips."""
    return {"skeletons": [source], "scratch": folder / "scratch", **SMALL, **others}


def prepare(output, *, format="ntu", keepbits=None, **settings):
    """`prepare` of a job with these fields, and the other arguments."""
    recipe = Recipe(format, KINECT_V2, 60, normal_form="released", keepbits=keepbits)
    names = {field.name for field in dataclasses.fields(Job)} & settings.keys()
    job = Job(recipe, **{name: settings.pop(name) for name in names})
    return prepare_job(output, job, **settings)


def emptied(folder):
    """Whether no unfinished work is left, only the lock."""
    return [path.suffix for path in (folder / "scratch").iterdir()] == [".lock"]


def tree(folder):
    """All files below a folder, with their bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A zip of 44 clips: the edge cases under four subjects."""
    path = tmp_path_factory.mktemp("clips") / "clips.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for subject in range(1, 5):
            for edge in EDGE:
                name = f"{edge.stem[:8]}P{subject:03}{edge.stem[12:]}.skeleton"
                file.writestr(f"clips/{name}", edge.read_bytes())
    return path


@pytest.fixture(scope="module")
def expected(clips, tmp_path_factory):
    """The store of these clips as one uninterrupted process writes it."""
    folder = tmp_path_factory.mktemp("expected")
    prepare(folder / "out.zarr", **arguments(folder, clips, workers=1))
    return tree(folder / "out.zarr")


def broken_zip(folder, files):
    path = folder / "clips.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def test_a_store_holds_the_clips_of_the_released_code(tmp_path):
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, GOLDEN / "edge"))
    clips = store.read(tmp_path / "out.zarr")
    with np.load(GOLDEN / "prepared_edge.npz") as golden:
        assert clips.name.tolist() == sorted(golden.files)
        for i, name in enumerate(clips.name):
            frames = clips.frames[clips.offsets[i] : clips.offsets[i + 1]]
            np.testing.assert_allclose(frames, golden[name], rtol=0, atol=1e-5)
            assert clips.raw_frames[i] == len(golden[name])
            fields = (clips.setup[i], clips.camera[i], clips.subject[i], clips.replication[i])
            text = "S{:03}C{:03}P{:03}R{:03}A{:03}".format(*fields, clips.label[i] + 1)
            assert text == name
    assert (report.clips, report.frames) == (len(clips), len(clips.frames))
    assert (clips.layout.name, clips.classes) == ("kinect-v2", 60)
    assert emptied(tmp_path)


@pytest.mark.parametrize(
    "others", [{"workers": 1}, {"workers": 3}, {"group": 1 << 30}, {"group": 1}]
)
def test_workers_and_groups_do_not_change_a_byte(tmp_path, clips, expected, others):
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, **others))
    assert tree(tmp_path / "out.zarr") == expected


def test_an_older_store_is_replaced(tmp_path, clips, expected):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "old").touch()
    (tmp_path / ".out.zarr.old").mkdir()  # left by a run that was killed as it replaced one
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips))
    assert tree(tmp_path / "out.zarr") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zarr", "scratch"]


def test_rounding_keeps_the_bits_that_are_asked_for(tmp_path, clips, expected):
    prepare(tmp_path / "exact.zarr", **arguments(tmp_path, clips))
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, keepbits=10))
    exact, rounded = (store.read(tmp_path / f"{n}.zarr").frames for n in ("exact", "out"))
    assert np.all(np.abs(rounded - exact) <= np.abs(exact) * 2.0**-11)
    assert np.any(rounded != exact)
    assert not np.any(rounded.view(np.uint32) & (2**13 - 1))


def test_listed_clips_are_left_out(tmp_path, clips):
    names = ["S001C001P001R001A001", "S001C001P002R001A001", "S099C001P001R001A001"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    arguments_ = arguments(tmp_path, clips, leave_out=tmp_path / "list.txt")
    report = prepare(tmp_path / "out.zarr", **arguments_)
    assert (report.listed, report.named, report.clips) == (2, 3, 42)
    assert not set(names) & set(store.read(tmp_path / "out.zarr").name.tolist())


@pytest.mark.parametrize(
    "spelt", ["{}.skeleton", "nturgb+d/{}.skeleton", "x\\{}", " {} ", "{}.TXT"]
)
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_listed_clips_may_have_a_folder_a_suffix_and_any_case(spelt, case):
    def entry(name):
        return Recording(Member("a.zip", name, 0, 0), (Clip(name, 0),))

    names = ["S001C001P001R001A001", "b/S001C001P001R001A001.1", "a b", "A b"]
    plan = Plan([entry(name) for name in names], [Broken("S001C001P001R001A061", "", None, "")])
    listed = ["s001C001P001R001A001", "S001C001P001R001A061", "S099C001P001R001A001"]
    left = _leave_out(plan, ["a b", "", *(spelt.format(case(name)) for name in listed)])
    assert [recording.member.name for recording in left.recordings] == [names[1], "A b"]
    assert (left.unusable, left.listed, left.named) == ([], 3, 4)


def test_what_a_complete_dataset_has_besides_is_said(tmp_path, clips):
    known = {"clips": 50, "setups": 7, "cameras": 3}
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, expected=known))
    assert report.missing == "6 of 50 clips; setups 6, 7"
    unknown = {"clips": None, "setups": None, "cameras": None}
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, expected=unknown))
    assert report.missing == ""
    with pytest.raises(UserError, match=r"not complete: it lacks 6 of 50 clips; setups 6, 7;"):
        prepare(
            tmp_path / "none.zarr",
            **arguments(tmp_path, clips, expected=known, require_complete=True),
        )
    assert not (tmp_path / "none.zarr").exists()


GOOD = EDGE[0].read_bytes()
BROKEN = {
    "c/S001C001P001R001A002.skeleton": GOOD[:1000],
    "c/S001C001P001R001A003.skeleton": GOOD,
    "c/S001C001P001R001A061.skeleton": GOOD,
    "c/S001C001P001R001A004.skeleton": b"0\n",
    "c/mine.skeleton": GOOD,
}
REASONS = [
    ("S001C001P001R001A002", "ends within frame 1 of 40"),
    ("S001C001P001R001A004", "0 frames"),
    ("S001C001P001R001A061", "unknown action 61: the dataset has 60"),
    ("mine", "the name is not SsssCcccPpppRrrrAaaa"),
]


def test_broken_clips_stop_the_work_with_a_list_of_them_all(tmp_path):
    source = broken_zip(tmp_path, BROKEN)
    with pytest.raises(BrokenClips, match=r"4 broken clips; fix") as error:
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, source, group=1))
    lines = str(error.value).splitlines()[1:]
    for line, (name, reason) in zip(lines, REASONS, strict=True):
        assert line.startswith(f"  {name}: {source}/c/{name}.skeleton")
        assert reason in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.zip", "scratch"]
    assert emptied(tmp_path)


def test_broken_clips_can_be_left_out_instead(tmp_path):
    source = broken_zip(tmp_path, BROKEN)
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, source, on_error="skip"))
    assert [entry.clip for entry in report.broken] == [name for name, _ in REASONS]
    assert store.read(tmp_path / "out.zarr").name.tolist() == ["S001C001P001R001A003"]


def test_broken_clips_of_one_reason_are_one_line(tmp_path):
    source = broken_zip(
        tmp_path, {f"S001C001P001R001A{a:03}.skeleton": b"0\n" for a in range(1, 61)}
    )
    with pytest.raises(BrokenClips, match="60 broken clips; fix") as error:
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, source))
    (line,) = str(error.value).splitlines()[1:]
    assert line.endswith("S001C001P001R001A001.skeleton, line 1: 0 frames; 59 more like it")
    assert len(error.value.broken) == 60


def test_nothing_but_broken_clips_is_an_error(tmp_path):
    source = broken_zip(tmp_path, {"S001C001P001R001A002.skeleton": b"x"})
    with pytest.raises(
        BrokenClips, match=r"no clip is left: 1 broken clip, 0 .*A002.*line 1: not sk"
    ) as error:
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, source, on_error="skip"))
    assert [entry.clip for entry in error.value.broken] == ["S001C001P001R001A002"]
    assert not (tmp_path / "out.zarr").exists()


def test_a_clip_that_is_there_twice_is_refused(tmp_path):
    name = "S001C001P001R001A002.skeleton"
    source = broken_zip(tmp_path, {f"a/{name}": GOOD, f"b/{name}": GOOD})
    with pytest.raises(ArchiveError, match=r"zip/b/S001.*: clip S001.* is in .*zip/a/S001.* too"):
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, source))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"format": "../x"}, "unknown format"),
        ({"on_error": "ignore"}, "on_error 'ignore' is neither 'stop' nor 'skip'"),
        ({"keepbits": 40}, "keepbits 40 is not within 1 to 23"),
        ({"executor": "tcp://127.0.0.1:1"}, "no Dask scheduler there|needs Dask"),
    ],
)
def test_a_mistaken_parameter_is_refused(tmp_path, others, message):
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, GOLDEN / "edge", **others))


def test_videos_are_cut_and_split_by_lists_of_their_names(tmp_path):
    random_ = np.random.default_rng(0)
    names = ("A10N08-L", "A10N08-R", "A11N09-M")
    for folder in ("videos", "labels"):
        (tmp_path / folder).mkdir()
    for name in names:
        np.savetxt(tmp_path / "videos" / f"{name}.txt", random_.normal(size=(40, 150)), fmt="%.6f")
        (tmp_path / "labels" / f"{name}.txt").write_text("5,0,10,1\n51,20,40,2\n")
    (tmp_path / "split.txt").write_text("Training\nA10N08-L, \nValidataion\nA11N09-M\n")
    report = prepare(
        tmp_path / "out.zarr",
        **arguments(
            tmp_path,
            tmp_path / "videos",
            format="pku",
            labels=[tmp_path / "labels"],
            splits=[tmp_path / "split.txt"],
        ),
    )
    clips = store.read(tmp_path / "out.zarr")
    assert clips.name.tolist() == [f"{name}-{i:03}" for name in names for i in range(2)]
    assert clips.label.tolist() == [4, 50] * 3
    assert clips.raw_frames.tolist() == [10, 20] * 3
    assert clips.splits["split.txt"].tolist() == [1, 1, -1, -1, 0, 0]
    assert report.clips == 6


def test_joints_that_are_zero_in_every_clip_are_said(tmp_path):
    lines = EDGE[0].read_text().splitlines()
    joint = 0
    for number, line in enumerate(lines):
        joint = 1 if line == "25" else joint + 1
        if len(line.split()) == 12 and joint - 1 in (4, 23):
            lines[number] = "0 0 0 " + " ".join(line.split()[3:])
    one = broken_zip(tmp_path, {f"{EDGE[0].stem}.skeleton": "\n".join(lines)})
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, one))
    assert report.absent_joints == (3, 22)
    whole = prepare(tmp_path / "out.zarr", **arguments(tmp_path, GOLDEN / "edge"))
    assert whole.absent_joints == ()


# What follows runs `prepare` in a process of its own, to be killed.

RUN = """
import sys
from pathlib import Path
sys.path[:0] = {folders!r}
from test_prepare import arguments, prepare, slowly
from skeletons.clips import store
from skeletons.preparing import workers
store.encode_shard = slowly(store.encode_shard)
if __name__ == "__main__":
    folder, source, executor = sys.argv[1:]
    try:
        settings = arguments(Path(folder), Path(source), executor=executor)
        prepare(Path(folder, "out.zarr"), **settings)
    except ValueError as error:
        sys.exit(str(error))
"""


def slowly(function):
    """The function after a pause, in which a kill can come."""

    def paused(*arguments, **settings):
        time.sleep(0.03)
        return function(*arguments, **settings)

    return paused


def start(folder, source, executor="processes", **options):
    script = folder / "run.py"
    script.write_text(RUN.format(folders=[str(ROOT), str(ROOT / "tests")]))
    return subprocess.Popen(
        [sys.executable, script, folder, source, executor],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(folder, source):
    """The exit code of a run."""
    with start(folder, source) as process:
        return process.wait()


def finished(folder):
    """The finished shards in scratch, by the number of their file on disk."""
    found = {}
    for path in folder.glob("scratch/*/*/store/frames/c/*/0/0/0"):
        with contextlib.suppress(FileNotFoundError):  # a run that ends removes them
            found[str(path)] = path.stat().st_ino
    return found


def wait_until(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def group_ended(process):
    """Whether no process of the session is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def kill(process, whole):
    """Kill a run, either all of its processes or the first, whose death the others must notice."""
    with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
        (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    wait_until(lambda: group_ended(process))


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_the_work_goes_on_to_the_same_bytes(tmp_path, clips, expected, seed):
    draw = random.Random(seed)
    done = {}
    for _ in range(4):
        process = start(tmp_path, clips)
        enough = len(done) + draw.randrange(1, 4)
        while process.poll() is None and len(finished(tmp_path)) < enough:
            time.sleep(0.002)
        time.sleep(draw.random() * 0.05)
        kill(process, whole=draw.random() < 0.5)
        if (tmp_path / "out.zarr").exists():
            break
        still = finished(tmp_path)
        assert done.items() <= still.items(), "finished work was done again"
        done = still
    assert done
    assert finish(tmp_path, clips) == 0
    assert tree(tmp_path / "out.zarr") == expected
    assert emptied(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_it_ends_there_is_a_whole_store_or_none(tmp_path, clips, expected, seed):
    process = start(tmp_path, clips)
    wait_until(
        lambda: list(tmp_path.glob("scratch/*/*/store/zarr.json")) or process.poll() is not None
    )
    time.sleep(random.Random(seed).random() * 0.06)
    kill(process, whole=True)
    if (tmp_path / "out.zarr").exists():
        assert tree(tmp_path / "out.zarr") == expected
    assert finish(tmp_path, clips) == 0
    assert tree(tmp_path / "out.zarr") == expected


class Killed(BaseException):
    """What nothing catches, like a kill."""


def killed(*_):
    raise Killed


def test_a_whole_store_is_not_made_again(tmp_path, clips, expected, monkeypatch):
    """Of a run that was killed before the store was in its place."""
    settings = arguments(tmp_path, clips)
    monkeypatch.setattr("machine.host.atomic.place", killed)
    with pytest.raises(Killed):
        prepare(tmp_path / "out.zarr", **settings)
    monkeypatch.undo()
    for work in ("workers.read_group", "writer.store.encode_shard"):
        monkeypatch.setattr(f"skeletons.preparing.{work}", killed)
    prepare(tmp_path / "out.zarr", **settings)
    assert tree(tmp_path / "out.zarr") == expected
    assert emptied(tmp_path)


@pytest.mark.parametrize("lost", ["store/frames/c/1", "store", "groups.jsonl"])
def test_what_a_run_that_was_killed_as_it_cleared_up_lacks_is_made_again(
    tmp_path, clips, expected, monkeypatch, lost
):
    monkeypatch.setattr("machine.host.atomic.place", killed)
    with pytest.raises(Killed):
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips))
    monkeypatch.undo()
    (path,) = tmp_path.glob(f"scratch/*/*/{lost}")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips))
    assert tree(tmp_path / "out.zarr") == expected


def test_a_killed_worker_is_said_and_the_work_goes_on(tmp_path, clips, expected):
    process = start(tmp_path, clips)
    wait_until(lambda: finished(tmp_path))
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if b"resource_tracker" not in (entry / "cmdline").read_bytes():
                parents[int(entry.name)] = parent
    # the last of its line: a worker, whether forked by the run or by a server of it
    worker = process.pid
    while children := [child for child, parent in parents.items() if parent == worker]:
        worker = max(children)
    os.kill(worker, signal.SIGKILL)
    _, message = process.communicate()
    assert process.returncode == 1
    assert message.startswith("a worker process was killed (out of memory?); run again")
    assert finish(tmp_path, clips) == 0
    assert tree(tmp_path / "out.zarr") == expected


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, and a function that gives it a size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size, option="size"):
        command = ["mount", "-t", "tmpfs", "-o", f"{option}={size}", "tmpfs", folder]
        return subprocess.run(command, capture_output=True, text=True)

    if mount("300k").returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder, lambda size: mount(size, "remount,size").check_returncode()
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_said_and_the_work_goes_on(disk, clips, expected):
    folder, enlarge = disk
    process = start(folder, clips)
    _, message = process.communicate()
    assert process.returncode == 1
    assert "No space left on device; when that is fixed, run again" in message
    assert message.count("\n") == 1
    assert not (folder / "out.zarr").exists()
    done = finished(folder)
    assert done
    enlarge("20m")
    assert finish(folder, clips) == 0
    assert tree(folder / "out.zarr") == expected


def test_a_full_disk_of_the_store_is_said_and_the_finished_store_is_kept(
    disk, tmp_path, clips, expected
):
    folder, enlarge = disk
    settings = arguments(tmp_path, clips)
    with pytest.raises(UserError, match=r"No space left on device.*; when that is") as error:
        prepare(folder / "out.zarr", **settings)
    assert "\n" not in str(error.value)
    assert not list(folder.iterdir())
    done = finished(tmp_path)
    enlarge("20m")
    prepare(folder / "out.zarr", **settings)
    assert tree(folder / "out.zarr") == expected
    assert len(done) > 5


def test_what_killed_runs_left_of_other_work_goes_when_one_is_done(tmp_path, clips, expected):
    """Of the same output."""
    process = start(tmp_path, clips)
    wait_until(lambda: finished(tmp_path))
    kill(process, whole=True)
    other = tmp_path / "scratch" / "prepare-out-2"
    other.mkdir()
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, keepbits=10))
    names = {path.name for path in (tmp_path / "scratch").iterdir()}
    assert names == {"prepare-out.lock", "prepare-out-2"}
    prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips))
    assert tree(tmp_path / "out.zarr") == expected


def test_a_run_waits_while_another_prepares_the_same_output(tmp_path, clips, expected):
    (tmp_path / "scratch").mkdir()
    lock = FileLock(tmp_path / "scratch" / "prepare-out.lock")
    with lock, start(tmp_path, clips) as process:
        time.sleep(2)
        assert process.poll() is None
        assert not finished(tmp_path)
        lock.release()
        assert process.wait() == 0
    assert tree(tmp_path / "out.zarr") == expected


def test_a_clip_whose_joints_are_all_at_one_point_is_kept(tmp_path):
    """Centred, it is nothing but zeros, which zarr leaves out of a store if it is not asked."""
    lines = EDGE[0].read_text().splitlines()
    numbers = [line.split() for line in lines]
    one_point = ["1 2 3 " + " ".join(n[3:]) if len(n) == 12 else " ".join(n) for n in numbers]
    archive = broken_zip(tmp_path, {f"{EDGE[0].stem}.skeleton": "\n".join(one_point)})
    report = prepare(tmp_path / "out.zarr", **arguments(tmp_path, archive))
    frames = store.read(tmp_path / "out.zarr").frames
    assert len(frames) == report.frames > 0
    assert not frames.any()


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path, clips, expected):
    with start(tmp_path, clips) as one, start(tmp_path, clips) as other:
        assert [one.wait(), other.wait()] == [0, 0]
    assert tree(tmp_path / "out.zarr") == expected


def test_a_dask_cluster_writes_the_same_bytes(tmp_path, clips, expected):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, executor=address))
    assert tree(tmp_path / "out.zarr") == expected


@pytest.fixture
def dask(tmp_path):
    """A Dask scheduler's address and process, a checkout, and a function that starts a worker of
    it and returns when that has joined.
    """
    distributed = pytest.importorskip("distributed")
    checkout, file = tmp_path / "checkout", tmp_path / "scheduler.json"
    for name in ("skeletons", "machine"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "errors.py", checkout)
    with contextlib.ExitStack() as processes:

        def run(command, *options):
            module = f"distributed.cli.dask_{command}"
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    module,
                    *options,
                    "--no-dashboard",
                    "--scheduler-file",
                    file,
                ],
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(checkout)},
                stderr=subprocess.DEVNULL,
            )
            processes.callback(process.wait)
            processes.callback(process.kill)
            return process

        def start_worker():
            with distributed.Client(address) as client:
                known = len(client.nthreads())
                process = run("worker", "--no-nanny", "--nthreads", "1")
                client.wait_for_workers(known + 1)
            return process

        scheduler = run("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        yield address, scheduler, checkout, start_worker


def test_a_dask_worker_of_other_code_is_refused(tmp_path, clips, expected, dask):
    """The code that it holds counts, not the file, and so for a worker that joins later."""
    address, _, checkout, start_worker = dask
    settings = arguments(tmp_path, clips, executor=address)
    first = start_worker()
    prepare(tmp_path / "out.zarr", **settings)
    with (checkout / "skeletons/preparing/normalise.py").open("a") as file:
        file.write("# edited\n")
    prepare(tmp_path / "again.zarr", **settings)
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "again.zarr") == expected
    refused = pytest.raises(UserError, match=r"Dask worker tcp://.* has other code.*: restart it")
    recipe = Recipe("ntu", KINECT_V2, 60, normal_form="released", keepbits=None)
    with start_workers(address, 1) as reading:
        start_worker()
        first.kill()
        with refused:
            reading.result(reading.submit([], recipe, tmp_path, True))
    with refused:
        prepare(tmp_path / "other.zarr", **settings)


def test_a_dask_cluster_without_workers_is_said_and_is_the_end(
    tmp_path, clips, dask, monkeypatch, capsys
):
    address, _, _, start_worker = dask
    monkeypatch.setattr(workers, "SAID", 1)
    monkeypatch.setattr(workers, "ENDED", 3)
    none = pytest.raises(UserError, match=r"had no worker for 3 seconds; .* parts are kept$")
    with none:
        prepare(tmp_path / "out.zarr", **arguments(tmp_path, clips, executor=address))
    assert capsys.readouterr().err == f"executor '{address}' has no worker: waiting for one\n"
    worker = start_worker()
    with none, start_workers(address, 1) as reading:
        worker.kill()
        worker.wait()
        reading.result(reading.submit())


def test_a_dask_scheduler_that_is_gone_is_said_in_a_line(dask, capfd):
    address, scheduler, _, start_worker = dask
    start_worker()
    gone = pytest.raises(UserError, match=r"the Dask scheduler is gone; .* parts are kept$")
    with gone as error, start_workers(address, 1) as reading:
        task = reading.submit()
        scheduler.kill()
        reading.result(task)
    assert "\n" not in str(error.value)
    assert not capfd.readouterr().err


@pytest.fixture
def project(tmp_path):
    """A project folder with a dataset of four clips; a function that runs the stage in it."""
    raw = tmp_path / "data" / "raw" / "mine"
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "mine.zip", "w") as file:
        for path in EDGE[:3]:
            file.write(path, path.name)
        file.writestr("S001C001P009R001A009.skeleton", b"0\n")

    def run(**settings):
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["sources"]["mine"] = "archives"
        described = yaml.safe_load((ROOT / "datasets/ntu60.yaml").read_text())
        described["archives"] = {
            "skeletons": ["mine.zip"],
            "leave_out": "datasets/lists/missing.txt",
            "clips": 4,
            "setups": 2,
        }
        params["prepare"] |= {"on_error": "skip", **settings}
        lists = tmp_path / "datasets" / "lists"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "missing.txt").write_text(EDGE[2].stem)
        for name in ("ntu60", "pku2"):
            shutil.copy(ROOT / "datasets" / f"{name}.yaml", tmp_path / "datasets")
        (tmp_path / "datasets/mine.yaml").write_text(yaml.safe_dump(described))
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
        return subprocess.run(
            [sys.executable, "-m", "stages.prepare", "mine"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    return run


def test_the_stage_says_what_it_found_and_lists_what_it_left_out(project, tmp_path):
    result = project()
    assert result.returncode == 0, result.stderr
    assert "data/mine.zarr: 2 of 4 clips" in result.stdout.splitlines()[-1]
    assert "1 of the 1 on datasets/lists/missing.txt left out" in result.stdout
    assert "mine: not complete, lacks 2 of 4 clips; setup 2" in result.stderr
    with (tmp_path / "metrics" / "prepare" / "mine.csv").open() as file:
        place = "data/raw/mine/mine.zip/S001C001P009R001A009.skeleton"
        assert list(csv.DictReader(file)) == [
            {"clip": "S001C001P009R001A009", "file": place, "line": "1", "reason": "0 frames"}
        ]
    assert len(store.read(tmp_path / "data" / "mine.zarr")) == 2
    (told,) = json.loads((tmp_path / "metrics" / "prepare" / "mine.json").read_text())
    assert (told["clips"], told["rule"], len(told["bones"])) == (2, "energy", 24)
    for line in told["warnings"]:
        assert f"mine: {line}" in result.stderr.splitlines()
    assert "mine: 0, 0 and 1 clips of a class and 1, 1 and 1 of a subject" in result.stdout


def test_the_stage_says_which_joints_no_clip_has_and_lists_clips_that_are_all_broken(
    project, tmp_path
):
    archive = tmp_path / "data" / "raw" / "mine" / "mine.zip"
    lines = EDGE[0].read_text().splitlines()
    for number, line in enumerate(lines):
        if line == "25":  # after which come the joints
            lines[number + 8] = "0 0 0 " + " ".join(lines[number + 8].split()[3:])
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{EDGE[0].stem}.skeleton", "\n".join(lines))
    result = project()
    assert result.returncode == 0, result.stderr
    warning = "absent, zero in every clip, and left out of heights and bones: left hand"
    assert f"mine: {warning}" in result.stderr
    (told,) = json.loads((tmp_path / "metrics" / "prepare" / "mine.json").read_text())
    assert told["absent_joints"] == [7]
    assert any(line.startswith(warning) for line in told["warnings"])
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("S001C001P009R001A009.skeleton", b"0\n")
    result = project()
    assert result.returncode == 1
    assert "no clip is left: 1 broken clip, 0 on the list" in result.stderr
    assert "line 1: 0 frames" in result.stderr
    assert "all broken clips: metrics/prepare/mine.csv" in result.stderr
    assert "0 frames" in (tmp_path / "metrics" / "prepare" / "mine.csv").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_error": "stop"}, "1 broken clip; fix"),
        ({"require_complete": True}, "the dataset is not complete: it lacks 1 of 4 clips"),
    ],
)
def test_the_stage_ends_with_a_message_and_no_result(project, tmp_path, settings, message):
    result = project(**settings)
    assert result.returncode == 1
    assert message in result.stderr
    again = "when the archives have changed: dvc repro --force --single-item raw@mine"
    assert (again in result.stderr) == (settings == {"on_error": "stop"})
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data" / "mine.zarr").exists()
    shutil.rmtree(tmp_path / "data")
    result = project(**settings)
    assert "mine.zip: no such archive" in result.stderr
