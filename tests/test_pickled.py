"""A pickle gives containers and arrays and runs nothing; a clip of an array is read in place."""

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from skeletons.archives import archive, npy, pickled
from skeletons.archives.archive import ArchiveError

ARRAYS = {
    "half": np.random.default_rng(0).normal(size=(2, 3, 4, 3)).astype(np.float16),
    "big endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.empty((0, 4), np.float32),
    "no axis": np.array(3.5),
    "text": np.array(["a", "bcd"]),
}


def written(path: Path, content: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_read_as_numpy_reads_them(tmp_path, name, protocol):
    array = ARRAYS[name]
    held = pickled.load(written(tmp_path / "a.pkl", {"a": [array, (1, None)]}, protocol))["a"]
    assert held[1] == (1, None)
    np.testing.assert_array_equal(held[0].values(), array)
    assert held[0].dtype == array.dtype
    assert held[0].data == array.tobytes()


def test_a_pickle_of_an_older_numpy_is_read(tmp_path):
    path = tmp_path / "a.pkl"
    new = pickle.dumps(ARRAYS["half"], 2)
    assert b"numpy._core" in new
    path.write_bytes(new.replace(b"numpy._core", b"numpy.core"))
    assert pickled.load(path).data == ARRAYS["half"].tobytes()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_number_of_numpys_is_one_of_pythons(tmp_path, protocol):
    held = pickled.load(written(tmp_path / "a.pkl", [np.int64(7), np.float32(0.5)], protocol))
    assert [(type(value), value) for value in held] == [(int, 7), (float, 0.5)]


class Runs:
    """What runs a function when it is loaded by `pickle`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_pickle_runs_nothing(tmp_path):
    touched = tmp_path / "touched"
    path = written(tmp_path / "a.pkl", [1, Runs(os.mkdir, str(touched))])
    with pytest.raises(ArchiveError, match=r"a\.pkl: .*asks for posix\.mkdir, and only arrays of"):
        pickled.load(path)
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # which does
    assert touched.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Path("x"), rf"asks for {type(Path()).__module__}\.PosixPath"),
        (Runs(np.frombuffer, b"12345678", "f8"), r"asks for numpy\.frombuffer"),
        (Runs(eval, "1 + 1"), r"asks for (builtins|__builtin__)\.eval"),
        (np.array([{}]), "an array of type O8"),
        (np.zeros(2, "f4,i4"), "an array of type V8"),
        (np.zeros(2, "M8[s]"), "an array of type M8"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_whatever_else_a_pickle_asks_for_is_refused(tmp_path, content, message, protocol):
    with pytest.raises(ArchiveError, match=message) as error:
        pickled.load(written(tmp_path / "a.pkl", content, protocol))
    assert "\n" not in str(error.value)


def test_bytes_are_decoded_by_no_other_codec(tmp_path):
    import codecs

    path = written(tmp_path / "a.pkl", Runs(codecs.encode, "a", "rot13"))
    with pytest.raises(ArchiveError, match="encodes text as 'rot13'"):
        pickled.load(path)


def test_an_array_of_fewer_bytes_than_its_shape_is_refused(tmp_path):
    data = pickle.dumps(np.arange(4, dtype=np.int8), 2)
    assert data.count(b"K\x04\x85") == 1  # the shape, (4,)
    (tmp_path / "a.pkl").write_bytes(data.replace(b"K\x04\x85", b"K\x05\x85"))
    with pytest.raises(ArchiveError, match=r"4 bytes are no array of shape \(5,\)"):
        pickled.load(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (b"]r\0\0\0\x20.", "at step 2 LONG_BINPUT has a number out of range"),
        (b"]p99999999\n.", "at step 2 PUT has a number out of range"),
        (b"\x8a\xff" + b"\x7f" * 255 + b".", "at step 1 LONG1 has a number out of range"),
        (b"\x95" + (1 << 33).to_bytes(8, "little") + b"N.", "truncated|exhausted"),
        (b"\x8e" + (1 << 33).to_bytes(8, "little") + b"N.", "8589934592 bytes"),
    ],
)
def test_a_pickle_takes_memory_in_proportion(tmp_path, steps, message):
    (tmp_path / "a.pkl").write_bytes(b"\x80\4" + steps)
    tracemalloc.start()
    with pytest.raises(ArchiveError, match=message):
        pickled.load(tmp_path / "a.pkl")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_damaged_pickle_is_said_in_one_line(tmp_path):
    whole = pickle.dumps({"a": ARRAYS["half"], "b": ["c"] * 3})
    path = tmp_path / "a.pkl"
    for end in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ArchiveError, match=r"a\.pkl: not a pickle that can be read") as error:
            pickled.load(path)
        assert "\n" not in str(error.value)


# ---- Arrays in place -----------------------------------------------------------------------------

CLIPS = np.random.default_rng(1).normal(size=(5, 4, 6)).astype(np.float32)


def clip(array: npy.Array, index: int) -> np.ndarray:
    member = array.clip(index, "name")
    return npy.numbers(archive.read(member), member)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_clip_of_an_npy_is_that_of_numpy(tmp_path, version):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, CLIPS, version)
    array = npy.open_npy(tmp_path / "a.npy")
    assert (array.shape, array.dtype) == (CLIPS.shape, CLIPS.dtype)
    np.testing.assert_array_equal(array.values(), CLIPS)
    for index in range(5):
        np.testing.assert_array_equal(clip(array, index), CLIPS[index])


def test_a_clip_of_a_stored_npz_is_that_of_numpy(tmp_path):
    np.savez(tmp_path / "a.npz", x=CLIPS, none=CLIPS[:0], y=CLIPS[::-1])
    arrays = npy.open_npz(tmp_path / "a.npz")
    assert list(arrays) == ["none", "x", "y"]
    for index in range(5):
        np.testing.assert_array_equal(clip(arrays["x"], index), CLIPS[index])
        np.testing.assert_array_equal(clip(arrays["y"], index), CLIPS[4 - index])
    assert arrays["none"].values().shape == (0, 4, 6)


def test_a_changed_byte_of_a_stored_npz_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=CLIPS)
    data = bytearray(path.read_bytes())
    data[data.find(CLIPS[3].tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a.npz/x.npy: damaged in the archive .wrong checksum"):
        npy.open_npz(path)


def test_a_packed_npz_is_refused_with_what_to_do(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=CLIPS)
    with pytest.raises(ArchiveError, match=r"a\.npz/x\.npy: compressed; .* again by np\.savez"):
        npy.open_npz(tmp_path / "a.npz")


def test_an_npy_that_is_none_or_not_whole_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, CLIPS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ArchiveError, match=r"a\.npy: cut short: 479 bytes .*\(5, 4, 6\) has 480;"):
        npy.open_npy(path)
    for data in (b"", b"\x93NUMPY", whole[:40], b"PK\3\4" + whole, b"\x93NUMPY\1\0\5\0{2:3}"):
        path.write_bytes(data)
        with pytest.raises(
            ArchiveError, match=r"a\.npy: (not an npy file|its npy header)"
        ) as error:
            npy.open_npy(path)
        assert "\n" not in str(error.value)
    np.save(path, np.asfortranarray(CLIPS))
    with pytest.raises(ArchiveError, match=r"a\.npy: in Fortran's order"):
        npy.open_npy(path)
    with pytest.raises(ArchiveError, match=r"b\.npy: No such file"):
        npy.open_npy(tmp_path / "b.npy")


def test_a_clip_takes_the_memory_of_a_clip(tmp_path):
    """Of a sparse file of 2 GiB: no more is read than the header and the clip."""
    path, shape = tmp_path / "a.npy", (512, 1 << 20)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        start = file.tell()
        file.truncate(start + 4 * shape[0] * shape[1])
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(2.5).tobytes())
    tracemalloc.start()
    last = clip(npy.open_npy(path), 511)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (last[-1], last.any(), np.count_nonzero(last)) == (2.5, True, 1)
    assert peak < 32 << 20
