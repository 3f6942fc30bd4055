"""Arrays of NumPy beside a table of clips: the neutral form, into which any source can be written.

An archive holds `clips.csv` and, beside or below it, an npy file a clip, or, in a folder, an npz
with an array a clip. The table is UTF-8, its cells separated by commas: a line with the names of
the columns, then a line a clip.

    file      the npy file, relative to the table, or the array's name in the npz. `.npy` may be
              left out; without it, this is the clip's name
    label     the action, from 0
    subject, camera, setup, replication
              whole numbers; a column that is left out is 0
    others    whole numbers, if all are, or words, under any name: protocols can speak of them

An array is (frames, joints, 3) or (frames, bodies, joints, 3), numbers of any type, in metres from
the sensor, with the joints of the layout. What is absent is 0. Bodies keep their order.

A clip is valid when its line has as many cells as the table columns, no other line names its file,
its label is one of the dataset's, and its array has this shape, no more bodies than the layout, 1
to `LONGEST` frames, coordinates within `LARGEST_RAW` and not a byte more or less than that takes.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skeletons.archives import archive, npy
from skeletons.archives.archive import ArchiveError, Member
from skeletons.archives.recordings import (
    LARGEST_RAW,
    LONGEST,
    OTHER_SENSOR,
    Broken,
    BrokenClip,
    Clip,
    Outcome,
    Recording,
    Source,
    counted,
)
from skeletons.clips.layout import Layout
from skeletons.clips.protocols import FIELDS

BODIES = "file"
COLUMNS = True
TABLE = "clips.csv"
_NAME = re.compile(r"[^\W\d]\w{,50}")
_WHOLE = re.compile(r"\d{1,9}", re.ASCII)


class _Table(NamedTuple):
    """A table: where it is, its columns, its lines by number, and the arrays beside it by name."""

    place: str
    columns: list[str]
    lines: list[tuple[int, list[str]]]
    arrays: dict[str, Member]


def plan(source: Source) -> Iterator[Recording | Broken]:
    """The clips of the tables, and those that cannot be used: lines that are no clip and, stopping
    nothing, arrays that no line names. No array is read.

    Raises ArchiveError for an unreadable archive and for a table that is none or has other columns
    than the first.
    """
    tables = [_table(path) for path in source.skeletons]
    for table in tables:
        if table.columns != tables[0].columns:
            raise ArchiveError(
                f"{table.place}: its columns are {', '.join(table.columns)}, but those of "
                f"{tables[0].place} {', '.join(tables[0].columns)}: give all tables the same"
            )
    found = []
    for entry in (entry for table in tables for entry in _entries(table, source.classes)):
        if isinstance(entry, Broken):
            yield entry
        else:
            found.append(entry)
    others = {
        column: _values([cells[column] for _, _, cells in found])
        for column in tables[0].columns
        if column not in ("file", "label", *FIELDS)
    }
    for index, (member, clip, _) in enumerate(found):
        columns = tuple((column, values[index]) for column, values in others.items())
        yield Recording(member, (clip._replace(columns=columns),))


def read(data: bytes, recording: Recording, *, layout: Layout, classes: int) -> Iterator[Outcome]:
    """The recording's clip with its bodies (M, T, V, 3)."""
    yield recording.clips[0], parse(data, joints=layout.joints, bodies=layout.bodies)


def parse(data: bytes, *, joints: int, bodies: int) -> NDArray[np.float64]:
    """The bodies (M, T, V, 3) in metres of an npy file, M at most `bodies` and V `joints`.

    Raises BrokenClip, and nothing else, for whatever is not a valid clip.
    """
    shape, fortran, dtype, start = npy.header(data)
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise BrokenClip(f"an array of {dtype}, not of numbers")
    persons = shape[1] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or shape[-2:] != (joints, 3) or not 1 <= persons <= bodies:
        many = f"(frames, {'1' if bodies == 1 else f'1 to {bodies}'}, {joints}, 3)"
        other = len(shape) in (3, 4) and shape[-1] == 3 and shape[-2] != joints
        hint = f"; {OTHER_SENSOR}" if other else ""
        raise BrokenClip(
            f"its shape is {shape}, not (frames, {joints}, 3), nor {many} with bodies{hint}"
        )
    frames = shape[0]
    if not 1 <= frames <= LONGEST:
        raise BrokenClip(f"{frames} frames, where 1 to {LONGEST} are allowed")
    size, due = len(data) - start, math.prod(shape) * dtype.itemsize
    if size != due:
        reason = f"{size:,} bytes of coordinates, where {shape} of {dtype} takes {due:,}"
        raise BrokenClip(f"{reason}; cut short? write it again")
    array = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
    with np.errstate(invalid="ignore"):  # of a signalling NaN
        clip = array.reshape(frames, persons, joints, 3).astype(np.float64)
    valid = np.abs(clip) < LARGEST_RAW  # NaN compares as False
    if not valid.all():
        frame, _, joint, _ = place = np.unravel_index(int(np.argmin(valid)), valid.shape)
        where = f"the coordinate {clip[place]:g} of joint {joint + 1} in frame {frame + 1}"
        raise BrokenClip(f"{where} is no length; a joint that is absent is 0, 0, 0")
    return clip.swapaxes(0, 1)


def _table(source: Path) -> _Table:
    """The table of an archive."""
    found = archive.members(source, TABLE)
    tables = [member for member in found if PurePosixPath(member.name).name.lower() == TABLE]
    if len(tables) != 1:
        names = ", ".join(member.name for member in tables or found)
        raise ArchiveError(f"{source}: holds {names}, where one {TABLE} is due; name its folder")
    (table,) = tables
    reader = csv.reader(io.StringIO(archive.text(table), newline=""), skipinitialspace=True)
    lines = []
    try:
        for cells in reader:
            if any(cells):
                lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise ArchiveError(f"{table.place}, line {reader.line_num}: {error}") from None
    columns = lines[0][1] if lines else []
    for column in ("file", "label"):
        if column not in columns:
            raise ArchiveError(
                f"{table.place}: no column {column}, but {', '.join(columns) or 'nothing'}; the "
                "first line names the columns, separated by commas"
            )
    for column in columns:
        if columns.count(column) > 1 or not _NAME.fullmatch(column):
            reason = "is no short name of letters, digits and _, or stands there twice"
            raise ArchiveError(f"{table.place}: the column {column!r} {reason}")
    return _Table(table.place, columns, lines[1:], _arrays(source, table))


def _arrays(source: Path, table: Member) -> dict[str, Member]:
    """The arrays beside and below a table, by their clips' names."""
    folder = PurePosixPath(table.place).parent
    found: dict[str, Member] = {}
    for member in archive.members(source, ""):
        path = PurePosixPath(member.place)
        if not path.is_relative_to(folder) or path.suffix.lower() not in (".npy", ".npz"):
            continue
        arrays, above = [member], folder
        if path.suffix.lower() == ".npz":
            if member.start is not None:
                raise ArchiveError(f"{path}: inside a zip; unpack the zip and name the folder")
            arrays, above = archive.members(Path(path), ".npy"), path
        for array in arrays:
            name = _clip_name(str(PurePosixPath(array.place).relative_to(above)))
            if name in found:
                raise ArchiveError(f"{array.place}: {found[name].place} is {name} too; remove one")
            found[name] = array
    return found


def _entries(table: _Table, classes: int) -> Iterator[tuple[Member, Clip, dict[str, str]] | Broken]:
    """The array, the clip without further columns, and the cells of each line that is a clip; why
    another is none, and arrays without a line.
    """
    file = table.columns.index("file")
    names = [_clip_name(cells[file] if file < len(cells) else "") for _, cells in table.lines]
    numbers = defaultdict(list)
    for name, (number, _) in zip(names, table.lines, strict=True):
        numbers[name].append(number)
    for name, (number, cells) in zip(names, table.lines, strict=True):
        try:
            if len(cells) != len(table.columns):
                due = counted(len(table.columns), "column")
                raise BrokenClip(f"{counted(len(cells), 'cell')} under {due}")
            if not name:
                raise BrokenClip("no file is named")
            if name not in table.arrays:
                raise BrokenClip(f"there is no array {name}.npy beside the table or in an npz")
            if len(numbers[name]) > 1:
                lines = " and ".join(map(str, numbers[name]))
                raise BrokenClip(f"lines {lines} name the same file; an array is one clip")
            fields = dict(zip(table.columns, cells, strict=True))
            clip = _clip(name, fields, classes)
        except BrokenClip as error:
            yield Broken(name, table.place, number, error.reason)
        else:
            yield table.arrays[name], clip, fields
    for name in sorted(table.arrays.keys() - numbers.keys()):
        reason = f"{table.place} has no line for it"
        yield Broken(name, table.arrays[name].place, None, reason, stops=False)


def _clip_name(file: str) -> str:
    """The name of the clip in a file: without the suffix."""
    return str(PurePosixPath(file.replace("\\", "/"))).removesuffix(".npy") if file else ""


def _clip(name: str, cells: Mapping[str, str], classes: int) -> Clip:
    """A clip as a line describes it, without further columns; BrokenClip names a wrong cell."""
    numbers = []
    for column in ("label", *FIELDS):
        cell = cells.get(column, "0")
        if not _WHOLE.fullmatch(cell):
            raise BrokenClip(f"{column} is {cell[:40]!r}, not a whole number")
        numbers.append(int(cell))
    label, subject, camera, setup, replication = numbers
    if label >= classes:
        raise BrokenClip(f"label is {label}: the dataset has 0 to {classes - 1}")
    return Clip(name, label, subject, camera, setup, replication)


def _values(cells: list[str]) -> list[int] | list[str]:
    """The cells of a column: whole numbers if all are, else words."""
    return [int(cell) for cell in cells] if all(map(_WHOLE.fullmatch, cells)) else cells
