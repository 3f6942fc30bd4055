"""Numbers in text, vectorised: where the words of a byte string lie, and what numbers they spell.

The datasets are gigabytes of decimal numbers. `Words` finds all words of a file in one numpy pass
over its bytes and converts any of them at once, 16 characters a word held in two 64-bit integers.
The result is that of Python's `float` to the last bit: digits are gathered exactly (below 2**53)
and divided once by an exact power of ten, which IEEE 754 rounds correctly (W. D. Clinger, "How to
read floating point numbers accurately", PLDI 1990). Words that do not fit this (exponents, more
digits) are left to `float` itself.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_NEWLINE, _SPACE, _PLUS, _MINUS = b"\n +-"
_GAPS = bytes(range(_SPACE + 1))
_WORD = 8  # bytes in a 64-bit integer
_WIDEST = 2 * _WORD  # the most characters of a number, without its sign, that two integers hold
_BLOCK = 1 << 14  # words converted together: their integers stay in the processor's second cache


def _bytes(value: int) -> np.uint64:
    """A 64-bit integer with `value` in each of its bytes."""
    return np.uint64(value * 0x0101010101010101)


# A number is read right-aligned: `near` holds its last 8 characters, `far` the 8 before if it has
# more, the earliest character in the lowest byte. A character is kept as its distance from "0", by
# exclusive or: digits become 0 to 9 and the point `_POINT`.
_ZEROS, _ONES, _HIGH, _OVER_9 = _bytes(ord("0")), _bytes(1), _bytes(0x80), _bytes(0x7F - 9)
_POINT = ord(".") ^ ord("0")
_POINTS = _bytes(_POINT)


def _point_before(after: int) -> int:
    """The point in 8 characters with `after` characters behind it; 0 when it is not among them."""
    return _POINT << 8 * (_WORD - 1 - after) if 0 <= after < _WORD else 0


# By the number of the last characters, 0 to 8: a mask of them.
_LAST = np.array([2**64 - 2 ** (8 * (_WORD - n)) for n in range(_WORD + 1)], np.uint64)
# By the number of digits after the point plus one; 0 means that there is no point.
_POINT_NEAR = np.array([_point_before(n - 1) for n in range(_WIDEST + 1)], np.uint64)
_POINT_FAR = np.array([_point_before(n - 1 - _WORD) for n in range(_WIDEST + 1)], np.uint64)
_SCALE = np.array([1.0] + [10.0**n for n in range(_WIDEST)])
_SHIFT = np.array([np.inf] + [10.0 ** (n + 1) for n in range(_WIDEST)])
_EXACT = 2.0**53


def _eight_digits(digits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The number that eight digits spell, a digit a byte: joined to pairs, fours, eights."""
    digits = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    digits = (digits * np.uint64(100) + (digits >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    digits = (digits * np.uint64(10_000) + (digits >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    return digits.astype(np.float64)


def _not_digits(characters: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether any of each 8 characters is not a digit."""
    return (characters | (characters + _OVER_9)) & _HIGH != 0


def _point_after(characters: NDArray[np.uint64]) -> NDArray[np.intp]:
    """How many of each 8 characters follow their first point, plus one; 0 without a point."""
    other = characters ^ _POINTS
    found = (other - _ONES) & ~other & _HIGH  # the lowest bit set marks the first zero byte
    return _WORD - (np.bitwise_count((found - np.uint64(1)) & ~found) >> np.uint8(3)).astype(
        np.intp
    )


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """The flags as bits of 64-bit integers, the first in the lowest bit, and an empty integer."""
    packed = np.zeros(len(flags) // 64 * _WORD + 2 * _WORD, np.uint8)
    found = np.packbits(flags, bitorder="little")
    packed[: len(found)] = found
    return packed.view("<u8")


def _next_bits(bits: NDArray[np.uint64], places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The 64 bits from each of these places on."""
    index, shift = places >> 6, (places & 63).astype(np.uint64)
    # a shift by 64 is 0 in numpy
    return bits[index] >> shift | bits[index + 1] << (np.uint64(64) - shift)


class Words:
    """The words of a text. Bytes up to the space (32) separate words, a newline also separates
    lines.

    Line `i` (0-based) has `counts[i]` words, the first of which is word `first[i]` of the text, and
    `first[lines]` is the number of words. A last line that is not ended by a newline counts like
    the others. Words are given as their first character and the one after their last, in arrays.

    Where words start and end is kept as bits, one a character: the words before a line are counted
    and its first ones found by arithmetic on these, without a list of all words.
    """

    def __init__(self, text: bytes) -> None:
        ending = b"" if text.endswith(b"\n") or not text else b"\n"
        # room in front, for a number's 16 characters may reach before the text
        self._text = b"\n" * _WIDEST + text + ending
        self._characters = np.frombuffer(self._text, np.uint8)
        # the 16 characters from each byte on
        self._runs = np.ndarray(
            len(self._text) - _WIDEST + 1, np.dtype(("V", _WIDEST)), self._text, strides=(1,)
        )
        self._gap = self._characters <= _SPACE
        self._starts = _bits(self._gap[:-1] > self._gap[1:])  # the first bit is character 1's
        self._ends = _bits(self._gap[:-1] < self._gap[1:])
        newlines = np.flatnonzero(self._characters[_WIDEST - 1 :] == _NEWLINE) + (_WIDEST - 1)
        self._newlines = newlines  # the one before each line, and the last
        before = np.concatenate(([0], np.cumsum(np.bitwise_count(self._starts), dtype=np.int64)))
        index, shift = newlines >> 6, (newlines & 63).astype(np.uint64)
        below = self._starts[index] & ((np.uint64(1) << shift) - np.uint64(1))
        self.first = before[index] + np.bitwise_count(below)
        self.lines = len(newlines) - 1
        self.counts = np.diff(self.first)

    @cached_property
    def all(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All words."""
        changes = np.flatnonzero(self._gap[1:] != self._gap[:-1]) + 1
        return changes[::2], changes[1::2]

    def leading(
        self, lines: NDArray[np.int64], number: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first words of lines that have as many: two arrays of the lines' shape x `number`."""
        places = self._newlines[lines]
        found = []
        for bits in (_next_bits(self._starts, places), _next_bits(self._ends, places)):
            characters = np.empty((*lines.shape, number), np.int64)
            for word in range(number):
                rest = bits - np.uint64(1)
                # the zeros below the lowest bit; when none is left, 64
                np.bitwise_count(rest & ~bits, out=characters[..., word], casting="unsafe")
                bits &= rest
            if (characters[..., -1] == 64).any():  # it is farther away
                index = self.first[lines][..., None] + np.arange(number)
                return self.all[0][index], self.all[1][index]
            characters += places[..., None] + 1
            found.append(characters)
        return found[0], found[1]

    def quote(self, start: int, end: int) -> str:
        """A word for a message: printable and short."""
        return repr(self._text[start : min(end, start + 40)].decode("ascii", "replace"))

    def line(self, start: int) -> int:
        """The line, counted from 1, that holds the word that starts here."""
        return int(np.searchsorted(self._newlines, start))

    def integer(self, line: int) -> int | None:
        """The number of a line (0-based) that is one word of up to 18 decimal digits; else None."""
        if self.counts[line] != 1:
            return None
        word = self._text[self._newlines[line] : self._newlines[line + 1]].strip(_GAPS)
        return int(word) if len(word) <= 18 and word.isdigit() else None

    def integers(self) -> NDArray[np.int64]:
        """For each line the number that it is, if it is one word of up to three digits; else -1."""
        numbers = np.full(self.lines, -1)
        lines = np.flatnonzero(self.counts == 1)
        starts, ends = (places[:, 0] for places in self.leading(lines, 1))
        number, valid = np.zeros_like(lines), ends - starts <= 3
        for place in (3, 2, 1):
            digit = self._characters[ends - place].astype(np.int64) - ord("0")
            digit[ends - starts < place] = 0
            valid &= (digit >= 0) & (digit <= 9)
            number = 10 * number + digit
        numbers[lines[valid]] = number[valid]
        return numbers

    def floats(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        """The numbers that words spell, of the same shape; NaN where a word is not a number."""
        numbers = np.empty(starts.size)
        flat = starts.reshape(-1), ends.reshape(-1)
        for start in range(0, starts.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            numbers[block] = self._convert(flat[0][block], flat[1][block])
        return numbers.reshape(starts.shape)

    def _convert(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.float64]:
        sign = self._characters[starts]
        minus = sign == _MINUS
        size = ends - starts - (minus | (sign == _PLUS))
        runs = self._runs[ends - _WIDEST].view("<u8")
        near = (runs[1::2] ^ _ZEROS) & _LAST.take(size, mode="clip")
        point = _point_after(near)  # digits after the point plus one, 0 without a point
        wide = np.flatnonzero(size > _WORD)
        far = (runs[::2][wide] ^ _ZEROS) & _LAST.take(size[wide] - _WORD, mode="clip")
        far_point = _point_after(far)
        far_point = np.where((point[wide] == 0) & (far_point > 0), far_point + _WORD, point[wide])
        point[wide] = far_point
        near ^= _POINT_NEAR[point]
        far ^= _POINT_FAR[far_point]

        number = _eight_digits(near)
        number[wide] += _eight_digits(far) * 1e8
        odd = _not_digits(near) | (size > _WIDEST) | (size <= (point > 0)) | (number > _EXACT)
        odd[wide] |= _not_digits(far)
        # the point was read as a digit 0: take out its place below the whole part
        scale = _SCALE[point]
        number -= np.floor(number / _SHIFT[point]) * 9 * scale
        number *= np.where(minus, -1.0, 1.0)
        number /= scale
        for place in np.flatnonzero(odd):
            try:
                number[place] = float(self._text[starts[place] : ends[place]])
            except ValueError:
                number[place] = np.nan
        return number
