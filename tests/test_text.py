"""Words and numbers of a text: the same as Python's own, to the last bit."""

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skeletons.archives.recordings import BrokenClip
from skeletons.archives.text import Words

ODD = (
    *("0", "-0", "+0", "0.0", "-0.0", ".5", "5.", "-.5", "+5."),
    *("-", "+", ".", "-.", "1.2.3", "1/2"),
    *("+-5", "--5", "1e5", "1E-05", "-2.5e+3", "1_000", "nan", "-inf", "0x10", "1e400", "1e-400"),
    *("9007199254740991", "9007199254740992", "9007199254740993", "9999999999999999"),
    *("0.1234567890123456", "123456789012345.6", "999999999999999.9", "0.000000000000001"),
    *("1.7976931348623157e308", "2.2250738585072011e-308", "123456789012345678901234567890.5"),
)
decimals = st.builds(
    "{:+.{}{}}".format, st.floats(-1e9, 1e9), st.integers(0, 20), st.sampled_from("efg")
)
digits = st.text("0123456789.", min_size=1, max_size=20)
anything = st.text("0123456789.+-e/:_x~", min_size=1, max_size=20)


def bits(word):
    """Of Python's number; NaN for what only Python writes, `1_000` or `inf`."""
    try:
        number = np.nan if set(word) - set("0123456789.+-eE") else float(word)
    except ValueError:
        number = np.nan
    return struct.pack("d", np.nan if np.isnan(number) else number)


def numbers_of(text):
    words = Words(text.encode())
    return words.floats(*words.all)


@settings(max_examples=300, deadline=None)
@given(st.lists(decimals | digits | anything | st.floats().map(repr), min_size=1))
@example(list(ODD))
@example([f"{sign}{word}" for word in ODD[:15] for sign in "+-"])
def test_numbers_are_those_of_float_to_the_last_bit(words):
    numbers = numbers_of(" ".join(words))
    assert [struct.pack("d", number) for number in numbers] == [bits(word) for word in words]


def test_numbers_of_every_length_and_point_are_those_of_float():
    digits = "1928374655647382910192837465564738291"
    words = [
        f"{sign}{digits[shift : shift + n]}.{digits[shift + n : shift + n + m]}"
        for sign in ("", "-", "+")
        for shift in (0, 3)
        for n in range(12)
        for m in range(18)
        if n + m
    ]
    numbers = numbers_of("\n".join(words))
    assert [struct.pack("d", number) for number in numbers] == [bits(word) for word in words]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(" \t\r\n1.", max_size=60).map(str.encode))
@example(b"")
@example(b"\n")
@example(b"1")
@example(b" 1 \r\n\r\n2")
@example(b"1 2 3\n" * 40 + b"1" * 63 + b" 2\n" + b" " * 63 + b"1 2 3\n")
def test_words_and_lines_are_those_of_split(text):
    words = Words(text)
    spaced = bytes(byte if byte > 32 or byte == 10 else 32 for byte in text)
    lines = spaced.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    assert words.lines == len(lines)
    assert list(words.counts) == [len(line.split()) for line in lines]
    # the words' places count from a newline before the text
    found = [(b"\n" + text)[a:b] for a, b in zip(*words.all, strict=True)]
    assert found == spaced.split()
    for number in range(1, 4):
        chosen = np.flatnonzero(words.counts >= number)
        starts, ends = words.leading(chosen, number)
        expected = words.first[chosen][:, None] + np.arange(number)
        assert np.array_equal(starts, words.all[0][expected])
        assert np.array_equal(ends, words.all[1][expected])


def test_more_lines_than_a_recording_can_have_are_refused_before_they_are_counted():
    text = b"\n" * (8 << 20)
    tracemalloc.start()
    with pytest.raises(BrokenClip, match=r"more than 4,194,304 lines; cut the recording"):
        Words(text)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_integers_of_lines_have_up_to_eight_digits():
    text = b"0\n25\n 007 \n10002000\n100020003\n1 2\n\n-1\n2.5\nab\n999\r\n6"
    integers = [0, 25, 7, 10002000, -1, -1, -1, -1, -1, -1, 999, 6]
    assert Words(text).integers().tolist() == integers
