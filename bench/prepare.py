"""Time, memory and disk that `prepare` takes. Run on Linux, from the project's folder:

    [RELEASED=<checkout>] python -m bench.prepare [clips, 2000 [most clips, 114480]]

The archive holds `clips` copies, with other last digits, of the clips in ../shared/real/ntu, or
else of tests/golden/edge, each brought to at least 50 frames; larger archives, up to `most` clips,
name the same data again. RELEASED is a checkout of the released code
(github.com/cong-wu/SCD-Net), whose generator is then measured on the first clips.
"""

import copy
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np

from skeletons import formats
from skeletons.archives.recordings import Source

ROOT = Path(__file__).parents[1]
REAL, EDGE = ROOT.parent / "shared" / "real", ROOT / "tests" / "golden" / "edge"
PREPARE = """
import sys
from pathlib import Path
from skeletons.sensors import LAYOUTS
from skeletons.preparing.job import Job, prepare
from skeletons.preparing.make_clips import Recipe
if __name__ == "__main__":
    source, format, output, workers, keepbits = sys.argv[1:]
    print(prepare(
        Path(output),
        Job(
            Recipe(format, LAYOUTS["kinect-v2"], classes=120, keepbits=int(keepbits) or None),
            skeletons=[Path(source)], labels=[Path(source).with_name("labels.zip")],
        ),
        workers=int(workers), scratch=Path(output).parent,
    ).frames)
"""
RELEASED_CLIPS = 400
PADDED = 2 * 300 * 2 * 25 * 3 * 4  # bytes a clip in the released code's arrays, for two protocols
MEMBERS = 114_480  # clips in the archives of NTU-120


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]]
    clips, most = sizes + [2000, MEMBERS][len(sizes) :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ctypes.CDLL(None).prctl(
            36, 1, 0, 0, 0
        )  # PR_SET_CHILD_SUBREAPER: wait for grandchildren too
        texts = sources()
        archive = make_ntu(folder / "ntu.zip", texts, clips)
        print(f"{clips} clips of {archive.stat().st_size / clips / 1e3:.0f} kB packed")
        ours = {clips: report("NTU", archive, "ntu", clips, folder)}
        ours |= memory(archive, folder, most)
        if "RELEASED" in os.environ:
            compare(released(Path(os.environ["RELEASED"]), archive, folder), ours)
        else:
            print("released generator: not measured (RELEASED=path of a checkout)")
        if (REAL / "pku").is_dir():
            pku, labels = make_pku(folder, clips // 20)
            report("PKU-MMD", pku, "pku", labels, folder)
        disk(folder, texts)
        planning(folder, most)


def report(title: str, source: Path, format: str, clips: int, folder: Path) -> tuple[float, float]:
    """Print the time of inflating an archive and of preparing it, and the memory; wall and CPU
    seconds with 2 workers.
    """
    print(f"{title}, {clips} clips")
    for workers in (1, 2):
        start = time.process_time()
        with zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                archive.read(name)
        inflate = time.process_time() - start
        wall, cpu, memory, frames = measure(source, format, folder / "out.zarr", workers)
        print(
            f"  prepare, {workers} workers: {wall:.2f} s, {clips / wall:.0f} clips/s "
            f"({frames} frames), {cpu:.2f} s CPU = {cpu / inflate:.2f} x inflating alone by "
            f"zlib ({inflate:.2f} s), peak RSS {memory / 2**20:.0f} MiB"
        )
    return wall, cpu


def measure(
    source: Path, format: str, output: Path, workers: int, keepbits: int = 0
) -> tuple[float, float, int, int]:
    """Seconds, seconds of CPU of all processes, their largest summed RSS, the frames prepared."""
    start = time.perf_counter()
    command = [sys.executable, "-c", PREPARE, str(source), format, str(output), str(workers)]
    process = subprocess.Popen(
        [*command, str(keepbits)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    peak = [0]
    watch = threading.Thread(target=watch_memory, args=(process.pid, peak), daemon=True)
    watch.start()
    assert process.stdout is not None
    frames = int(process.stdout.read() or 0)
    cpu = 0.0
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu += usage.ru_utime + usage.ru_stime
        wall = time.perf_counter() - start
    process.returncode = 0
    if not frames:
        sys.exit(f"{source}: prepare failed")
    return wall, cpu, peak[0], frames


def watch_memory(pid: int, peak: list[int]) -> None:
    """Keep the largest sum of the RSS of a process and its descendants."""
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        parents, sizes = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    status = (entry / "stat").read_text().rpartition(")")[2].split()
                    sizes[int(entry.name)] = int((entry / "statm").read_text().split()[1])
                except OSError:
                    continue
                parents[int(entry.name)] = int(status[1])
        if pid not in parents:
            return
        total = 0
        for process, size in sizes.items():
            ancestor = process
            while ancestor not in (pid, 0):
                ancestor = parents.get(ancestor, 0)
            total += size if ancestor == pid else 0
        peak[0] = max(peak[0], total * page)
        time.sleep(0.1)


def sources() -> list[bytes]:
    """The texts of clips, of at least 50 frames each."""
    texts = []
    for path in sorted((REAL / "ntu" if (REAL / "ntu").is_dir() else EDGE).glob("*.skeleton")):
        frames, _, rest = path.read_bytes().partition(b"\n")
        times = -(-50 // int(frames))
        texts.append(b"%d\n" % (int(frames) * times) + rest * times)
    return texts


def vary(text: bytes, random: np.random.Generator) -> bytes:
    """The text with other last digits, so that no two copies compress together."""
    characters = np.frombuffer(text, np.uint8).copy()
    digit = (characters >= ord("0")) & (characters <= ord("9"))
    # the fifth of five digits in a row, followed by a space
    last = np.flatnonzero(
        digit[:-5] & digit[1:-4] & digit[2:-3] & digit[3:-2] & digit[4:-1] & (characters[5:] == 32)
    )
    characters[last + 4] = random.integers(ord("0"), ord("9") + 1, len(last))
    return characters.tobytes()


def make_ntu(path: Path, texts: list[bytes], clips: int) -> Path:
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(clips):
            archive.writestr(clip_name(i), vary(texts[i % len(texts)], random))
    return path


def clip_name(i: int) -> str:
    """The name of the i-th of 120 actions x 40 subjects x 3 cameras x 32 setups."""
    action, subject, camera, setup = i % 120, i // 120 % 40, i // 4800 % 3, i // 14400
    return f"clips/S{setup + 1:03}C{camera + 1:03}P{subject + 1:03}R001A{action + 1:03}.skeleton"


def memory(source: Path, folder: Path, most: int) -> dict[int, tuple[float, float]]:
    """Print the memory that preparing other numbers of clips of the archive takes, up to `most`;
    wall and CPU seconds of each.
    """
    times = {}
    for clips in (size for size in (1_000, 10_000, MEMBERS) if size <= most):
        path = shutil.copyfile(source, folder / "named.zip")
        with zipfile.ZipFile(path, "a") as archive:
            members = archive.infolist()
            archive.filelist = [copy.copy(members[i % len(members)]) for i in range(clips)]
            for i, member in enumerate(archive.filelist):
                member.filename = clip_name(i)  # of the same data
            archive.comment = b"renamed"  # or the list would not be written
        wall, cpu, memory, _ = measure(path, "ntu", folder / "out.zarr", 2)
        print(
            f"{clips:,} clips, 2 workers: peak RSS {memory / 2**20:.0f} MiB, "
            f"{cpu / clips * 1e3:.2f} ms CPU a clip, {clips / wall:.0f} clips/s"
        )
        times[clips] = wall, cpu
    return times


def compare(theirs: tuple[float, float], ours: dict[int, tuple[float, float]]) -> None:
    """Print how many times as fast as the released generator preparing numbers of clips is."""
    wall, cpu = (seconds / RELEASED_CLIPS for seconds in theirs)
    print(
        f"released generator, both protocols, {RELEASED_CLIPS} clips: {1 / wall:.1f} clips/s, "
        f"{cpu * 1e3:.0f} ms CPU a clip"
    )
    for clips, (our_wall, our_cpu) in sorted(ours.items()):
        print(
            f"  prepare, {clips:,} clips, 2 workers: {wall * clips / our_wall:.0f} x the clips/s, "
            f"by CPU time {2 * cpu * clips / our_cpu:.0f} x if both cores are free"
        )


def planning(folder: Path, clips: int) -> None:
    """Print the time that listing and planning an archive of so many clips takes."""
    path = folder / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(clips):
            archive.writestr(clip_name(i), b"1\n0\n")
    start = time.perf_counter()
    recordings, _ = formats.plan("ntu", Source([path], classes=120))
    print(f"listing and planning {len(recordings)} clips: {time.perf_counter() - start:.1f} s")


def make_pku(folder: Path, videos: int) -> tuple[Path, int]:
    """Videos of about 5,000 frames with 20 clips of 112 frames each, like the dataset's."""
    (source,) = (REAL / "pku").glob("*.txt")
    text = source.read_bytes() * 5
    lines = text.count(b"\n")
    random = np.random.default_rng(0)
    step = lines // 20
    labels = "".join(f"{i + 1},{i * step},{i * step + 112},1\n" for i in range(20))
    with (
        zipfile.ZipFile(folder / "pku.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        zipfile.ZipFile(folder / "labels.zip", "w") as label_archive,
    ):
        for i in range(videos):
            archive.writestr(f"{i + 1:04}-M.txt", vary(text, random))
            label_archive.writestr(f"{i + 1:04}-M.txt", labels)
    return folder / "pku.zip", videos * 20


def released(checkout: Path, source: Path, folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of the released generator for both protocols of some clips."""
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist()[:RELEASED_CLIPS]:
            archive.extract(name, folder / "unpacked")
    start = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "ntu_gendata.py"),
            *("--data_path", folder / "unpacked" / "clips", "--out_folder", folder / "released"),
        ],
        cwd=checkout / "data_gen",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        sys.exit(f"{checkout}: its generator failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def disk(folder: Path, texts: list[bytes]) -> None:
    """Print the size of the store of the clips, none of them copied."""
    once = folder / "once.zip"
    make_ntu(once, texts, len(texts))
    frames = sum(int(text.partition(b"\n")[0]) for text in texts)
    print(
        f"disk, {len(texts)} clips of {frames / len(texts):.0f} frames; "
        f"the released code writes {PADDED / 1e3:.0f} kB a clip"
    )
    for keepbits in (0, 16, 13, 10):
        output = folder / "once.zarr"
        frames = measure(once, "ntu", output, 1, keepbits)[3]
        files = [file for file in (output / "frames").rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        print(
            f"  {f'keepbits {keepbits}' if keepbits else 'float32':12}"
            f" {size / frames:5.0f} bytes a frame, {size / len(texts) / 1e3:5.1f} kB a clip, "
            f"1/{PADDED * len(texts) / size:.1f}"
        )


if __name__ == "__main__":
    main()
