"""Numbers in text, vectorised: where the words of a byte string lie, and what numbers they spell.

The datasets are gigabytes of decimal numbers. `Words` finds all words of a file in one numpy pass
over its bytes and converts any of them at once, 16 characters a word held in two 64-bit integers.
The result is that of Python's `float` to the last bit: digits are gathered exactly (below 2**53)
and divided once by an exact power of ten, which IEEE 754 rounds correctly (W. D. Clinger, "How to
read floating point numbers accurately", PLDI 1990). Numbers that do not fit this (exponents, a plus
sign, more digits) are left to `float` itself.
"""

import re
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skeletons.archives.recordings import LARGEST_RAW, OTHER_SENSOR, BrokenClip, counted

_NEWLINE, _SPACE, _MINUS = b"\n -"
_WORD = 8  # bytes in a 64-bit integer
_WIDEST = 2 * _WORD  # the most characters of a number, without its sign, that two integers hold
_RUN = np.dtype(("V", _WIDEST))  # characters that are gathered together
_LINES = 1 << 22  # beyond those of the longest recording of six bodies, a joint a line
_BLOCK = 1 << 14  # words converted together: their integers stay in the processor's second cache


def _bytes(value: int) -> np.uint64:
    """A 64-bit integer with `value` in each of its bytes."""
    return np.uint64(value * 0x0101010101010101)


# A number is read left-aligned: `near` holds its first 8 characters, `far` the 8 after, the
# earliest character in the lowest byte. A character is kept as its distance from "0", by exclusive
# or: digits become 0 to 9 and the point `_POINTS`. Where a number has ended, digits 0 follow.
_ZEROS, _ONES, _HIGH, _OVER_9 = _bytes(ord("0")), _bytes(1), _bytes(0x80), _bytes(0x7F - 9)
_POINTS = _bytes(ord(".") ^ ord("0"))
_ONE, _BYTE, _ALL = np.uint64(1), np.uint64(8), np.uint64(64)  # shifts by bits
# By the number of the first characters, 0 to 8: a mask of them.
_FIRST = np.array([2 ** (8 * n) - 1 for n in range(_WORD + 1)], np.uint64)
# By the number of digits before the point, of 8 in all; then the same for negative numbers.
_SCALE = np.array([sign * 10.0 ** (_WORD - n) for sign in (1, -1) for n in range(_WORD + 1)])
_EXACT = 2.0**53
# What a program writes. `float` reads more: 1_000, nan, infinity.
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def _eight_digits(digits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The number that eight digits spell, a digit a byte: joined to pairs, these to their sum."""
    pairs = digits >> _BYTE
    pairs += digits * np.uint64(10)  # in every other byte
    later = pairs >> np.uint64(16)
    for two, weights in ((pairs, 1_000_000 << 32 | 100), (later, 10_000 << 32 | 1)):
        two &= np.uint64(0x000000FF000000FF)
        two *= np.uint64(weights)  # what the lower pair adds comes to lie beside the higher one
    pairs += later
    pairs >>= np.uint64(32)
    return pairs.astype(np.float64)


def _not_digits(characters: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True where any of 8 characters is not a digit."""
    return (characters | (characters + _OVER_9)) & _HIGH != 0


def _until_point(
    characters: NDArray[np.uint64], size: NDArray[np.int64]
) -> tuple[NDArray[np.int64] | int, NDArray[np.uint64] | np.uint64]:
    """Count those of each 8 characters, or of the first `size`, before the point; with a mask of
    them: of all 8 without a point.
    """
    second = characters & np.uint64(0xFF00) == _POINTS & np.uint64(0xFF00)
    if second.all():  # as in 0.1234567: most of what the datasets have
        return 1, np.uint64(0xFF)
    found = characters ^ _POINTS
    found = (found - _ONES) & ~found & _HIGH  # the lowest bit set marks the first zero byte
    before = ((found & -found) >> np.uint64(7)) - _ONE
    return np.minimum(np.bitwise_count(before) >> np.uint8(3), size), before


class Words:
    """The words of a text. Bytes up to the space (32) separate words, a newline also separates
    lines.

    Line `i` (0-based) has `counts[i]` words, the first of which is word `first[i]` of the text, and
    `first[lines]` is the number of words. A last line that is not ended by a newline counts like
    the others. Words are given as their first character and the one after their last, in arrays;
    characters are counted from a newline that is put before the text.

    Where the gaps between words are is kept as bits, one a character: the words before a line are
    counted and its first ones found by arithmetic on these, without a list of all words.

    Raises BrokenClip for more than `_LINES` lines, of which the index takes many times the text.
    """

    def __init__(self, text: bytes) -> None:
        if text.count(b"\n") > _LINES:
            raise BrokenClip(f"more than {_LINES:,} lines; cut the recording into shorter ones")
        ending = b"" if text.endswith(b"\n") or not text else b"\n"
        # room behind, for the characters and the bits that are read at once may reach beyond
        room = b" " * (128 - (1 + len(text) + len(ending)) % 64)
        self._text = b"".join((b"\n", text, ending, room))
        self._characters = np.frombuffer(self._text, np.uint8)
        # the 16 characters from each byte on
        self._runs = np.ndarray(len(self._text) - _WIDEST + 1, _RUN, self._text, strides=(1,))
        self._gaps = np.packbits(self._characters <= _SPACE, bitorder="little").view("<u8")
        after_gap = self._gaps << _ONE
        after_gap[1:] |= self._gaps[:-1] >> np.uint64(63)
        starts = after_gap & ~self._gaps
        # the newline before each line, and the last
        self._newlines = np.flatnonzero(self._characters == _NEWLINE)
        before = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(np.bitwise_count(starts), out=before[1:])
        index, shift = self._newlines >> 6, (self._newlines & 63).view(np.uint64)
        below = starts[index] & ((_ONE << shift) - _ONE)
        self.first = before[index] + np.bitwise_count(below)
        self.lines = len(self._newlines) - 1
        self.counts = self.first[1:] - self.first[:-1]

    @cached_property
    def all(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All words."""
        gap = self._characters <= _SPACE
        changes = np.flatnonzero(gap[1:] != gap[:-1]) + 1
        return changes[::2], changes[1::2]

    def leading(
        self, lines: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first words of lines that have as many: two arrays of the lines' shape x `number`."""
        places = self._newlines[lines] + 1
        index, shift = places >> 6, (places & 63).view(np.uint64)
        # the bits of 64 characters; a shift by 64 is 0 in numpy
        gaps = self._gaps[index] >> shift
        gaps |= self._gaps[index + 1] << (_ALL - shift)
        changes = gaps ^ (gaps << _ONE | _ONE)  # where words start and end, in turn
        found = np.empty((2, *lines.shape, number), np.int64)
        for change in range(2 * number):
            rest = changes - _ONE
            # the zeros below the lowest bit; when none is left, 64
            characters = np.bitwise_count(rest & ~changes)
            np.add(characters, places, out=found[change % 2, ..., change // 2])
            changes &= rest
        if (characters == 64).any():  # it is farther away
            word = self.first[lines][..., None] + np.arange(number)
            return self.all[0][word], self.all[1][word]
        return found[0], found[1]

    def quote(self, start: int, end: int) -> str:
        """A word for a message: printable and short."""
        return repr(self._text[start : min(end, start + 40)].decode("ascii", "replace"))

    def line(self, start: int) -> int:
        """The line, counted from 1, that holds the word that starts here."""
        return int(np.searchsorted(self._newlines, start))

    def integers(self) -> NDArray[np.int64]:
        """For each line the number that it is, if it is one word of up to eight digits; else -1."""
        numbers = np.full(self.lines, -1)
        lines = np.flatnonzero(self.counts == 1)
        starts, ends = (places[:, 0] for places in self.leading(lines, 1))
        size = ends - starts
        near = self._runs[starts].view("<u8")[::2] ^ _ZEROS
        near <<= (8 * (_WORD - np.minimum(size, _WORD))).astype(np.uint64)  # to the right
        valid = (size <= _WORD) & ~_not_digits(near)
        numbers[lines] = np.where(valid, _eight_digits(near), -1)
        return numbers

    def floats(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers that words spell, of the same shape; NaN where a word is not one."""
        numbers = np.empty(starts.size)
        flat = starts.reshape(-1), ends.reshape(-1)
        for start in range(0, starts.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            numbers[block] = self._convert(flat[0][block], flat[1][block])
        return numbers.reshape(starts.shape)

    def _convert(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        sign = self._characters[starts]
        minus = sign == _MINUS
        begin = starts + minus
        size = ends - begin
        runs = self._runs[begin].view("<u8")
        near, far = runs[::2] ^ _ZEROS, runs[1::2] ^ _ZEROS
        near &= _FIRST.take(size, mode="clip")
        far &= _FIRST.take(size - _WORD, mode="clip")

        whole, before = _until_point(near, size)
        # what is behind the point moves up and takes its place
        behind = near >> _BYTE | far << np.uint64(56)
        near = behind ^ ((behind ^ near) & before)
        far >>= _BYTE

        number = _eight_digits(near)
        scale = _SCALE.take(whole + (_WORD + 1) * minus, mode="clip")
        pointless = before == _FIRST[_WORD]
        odd = _not_digits(near)
        odd |= size < 2 - pointless
        odd |= size > _WIDEST - _WORD * pointless
        wide = np.flatnonzero(far != 0)
        far = far[wide]
        both = number[wide] * 1e8 + _eight_digits(far)
        number[wide] = both
        scale[wide] *= 1e8
        odd[wide] |= _not_digits(far) | (both >= _EXACT)
        number /= scale
        for place in np.flatnonzero(odd):
            word = self._text[starts[place] : ends[place]]
            number[place] = float(word) if _NUMBER.fullmatch(word) else np.nan
        return number


def table(data: bytes, columns: int) -> tuple[Words, NDArray[np.int64], NDArray[np.int64]]:
    """The words of a text of so many words a line, and where each starts and ends: (lines, columns)
    each.

    Raises BrokenClip for a text without a word and for a line of another number of words; blank
    lines may follow the last.
    """
    words = Words(data)
    if not words.first[-1]:
        raise BrokenClip("0 frames", 1)
    counts = words.counts[: int(np.flatnonzero(words.counts)[-1]) + 1]
    wrong = counts != columns
    if wrong.any():
        line = int(np.argmax(wrong))
        number = counted(int(counts[line]), "value")
        hint = "" if line else f"; {OTHER_SENSOR}"
        raise BrokenClip(f"{number} where {columns} are due{hint}", line + 1)
    starts, ends = (places.reshape(-1, columns) for places in words.all)
    return words, starts, ends


def coordinates(
    words: Words, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """These words as metres, of the same shape. Raises BrokenClip for one that is not, or beyond
    `LARGEST_RAW`.
    """
    numbers = words.floats(starts, ends)
    if not max(numbers.max(initial=0), -numbers.min(initial=0)) < LARGEST_RAW:  # not NaN
        valid = np.abs(numbers) < LARGEST_RAW
        start, end = (int(places.flat[int(np.argmin(valid))]) for places in (starts, ends))
        reason = f"the coordinate {words.quote(start, end)} is no length"
        raise BrokenClip(reason, words.line(start))
    return numbers
