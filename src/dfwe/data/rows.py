"""Tables as rows of text: CSV, JSON, Parquet, data sets of `datasets`; no value's type is guessed.

A CSV field is its characters. In JSON a string is itself, a number, `true` or `false` is as
written, null is missing and a list is several texts. In Parquet strings are themselves and whole
numbers decimal; other types have no one spelling, and are refused where a column is read.
"""

import csv
import gzip
import re
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dfwe.data.strict_json import HALF, decode, decoder
from dfwe.errors import UserError, reason
from dfwe.plain import is_list, is_mapping

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import Array, DataType

LONGEST = 2**31 - 1  # characters of a CSV field; the library's own limit is 131,072
ROWS = 10_000  # that are converted at a time
BROKEN = "text with half a character (a lone surrogate); write the file again"
_BLANK = re.compile(r"\s*")
_OPENING = re.compile(r"\s*\[\s*(?P<closed>\]\s*\Z)?")
_BETWEEN = re.compile(r"\s*(,\s*|(?P<closed>\]\s*\Z))")
_DECODER = decoder(number=str)  # a number is its characters


@dataclass(frozen=True)
class NoText:
    """A value that has no one spelling as text.

    Args:
        words: what it is and the way out, for use after `is`.
    """

    words: str


Cell = str | tuple[str, ...] | NoText | None  # None is missing
Numbered = Iterator[tuple[int, Mapping[str, Cell]]]  # lines or rows of a file, counted from 1


class Table:
    """The rows of one or several files.

    Args:
        unit: what their numbers count, `line` or `row`; empty for a single row.
    """

    def __init__(self, unit: str = "") -> None:
        self.unit = unit
        self.names: Mapping[str, Sequence[str]] = {}  # column -> names of its numbered classes
        self.columns: dict[str, int] = {}  # name -> position, in the order of their appearance
        self.places: list[str] = []
        self._starts: list[int] = []  # the first row of each place
        self._cells: list[tuple[Cell, ...]] = []
        self._numbers = array("q")

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, position: int) -> "Row":
        return Row(self, position)

    def __iter__(self) -> Iterator["Row"]:
        return (Row(self, position) for position in range(len(self)))

    def add(self, place: str, rows: Numbered) -> None:
        """Append a file's rows."""
        self.places.append(place)
        self._starts.append(len(self))
        positions = self.columns
        for number, row in rows:
            if list(row) != list(positions):
                for name in row:
                    positions.setdefault(name, len(positions))
                row = {name: row.get(name) for name in positions}
            self._cells.append(tuple(row.values()))
            self._numbers.append(number)

    def cell(self, position: int, column: str) -> Cell:
        """A value.

        Raises:
            UserError: the table has no such column.
        """
        if column not in self.columns:
            raise UserError(
                f"{', '.join(self.places)} has no column '{column}'; it has: "
                f"{', '.join(self.columns)}."
            )
        cells, at = self._cells[position], self.columns[column]
        return cells[at] if at < len(cells) else None  # the column appeared in a later row

    def place(self, position: int) -> str:
        """Where a row stands."""
        file = self.places[bisect_right(self._starts, position) - 1]
        return f"{file}, {self.unit} {self._numbers[position]}," if self.unit else file


class Row:
    """A row as text by column; a column without a text is an error when it is read."""

    __slots__ = ("_position", "_table")

    def __init__(self, table: Table, position: int) -> None:
        self._table = table
        self._position = position

    @classmethod
    def of(cls, annotation: object, name: str) -> "Row":
        """An annotation as a row: it is one already, or an object of columns.

        Args:
            annotation: what a corpus says of a dialogue.
            name: the dialogue's, for messages.

        Raises:
            UserError: it is neither.
        """
        if isinstance(annotation, cls):
            return annotation
        table = Table()
        table.add(name, iter([(1, _object(name, annotation))]))
        return table[0]

    @property
    def place(self) -> str:
        """File and line, as the subject of a sentence."""
        return self._table.place(self._position)

    def __getitem__(self, column: str) -> str:
        """The text of a column.

        Raises:
            UserError: there is none: the value is missing, a list or of another type.
        """
        cell = self._table.cell(self._position, column)
        if isinstance(cell, str):
            return cell
        if isinstance(cell, tuple):
            raise UserError(
                f"{self.place} has a list of texts as '{column}', where one is needed (several "
                "stand for several accepted answers, in the column of answers alone); join them."
            )
        self._refuse(column, cell)

    def answers(self, column: str) -> tuple[str, ...]:
        """The texts of a column of accepted answers, one or several.

        Raises:
            UserError: there is none: the value is missing, empty or of another type.
        """
        cell = self._table.cell(self._position, column)
        if isinstance(cell, tuple) and cell:
            return cell
        if isinstance(cell, str) and cell:
            return (cell,)
        self._refuse(column, cell if isinstance(cell, NoText) else None)

    def _refuse(self, column: str, cell: NoText | None) -> NoReturn:
        if cell is None:
            raise UserError(f"{self.place} has no '{column}'; fill it in or take the row out.")
        raise UserError(f"{self.place} has a '{column}' that is {cell.words}.")

    def __contains__(self, column: str) -> bool:
        known = column in self._table.columns
        return known and self._table.cell(self._position, column) is not None


def read_files(folder: Path, stems: Sequence[str]) -> Table:
    """The rows of a split: of one file, or of numbered parts (`train-00000-of-00002.parquet`).

    Args:
        folder: what else it has is left alone.
        stems: what the file may be called.

    Raises:
        UserError: there is none, or more than one; a part is missing; a file cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    files = [match for name in names if (match := _NAME.fullmatch(name)) and match[1] in stems]
    if not files:
        raise UserError(
            f"{folder} has no table named {' or '.join(stems)} (.jsonl, .json, .csv, .tsv, also "
            f".gz; .parquet); it has: {', '.join(names) or 'nothing'}."
        )
    if len({(match[1], match["total"], match["kind"]) for match in files}) > 1:
        raise UserError(
            f"{folder} has {' and '.join(match[0] for match in files)} for one split; leave one "
            "of them there."
        )
    parts = int(files[0]["total"] or 1)
    if [int(match["part"] or 0) for match in files] != list(range(parts)):
        raise UserError(
            f"{folder} has {len(files)} of the {parts} parts of {files[0][1]}; get all."
        )
    table = Table("row" if files[0]["kind"] == ".parquet" else "line")
    for match in files:
        _read_file(folder / match[0], table)
    return table


_NAME = re.compile(
    r"(.+?)(-(?P<part>\d{5})-of-(?P<total>\d{5}))?"
    r"(?P<kind>\.parquet|(\.jsonl|\.json|\.csv|\.tsv)(\.gz)?)"
)


def _read_file(path: Path, table: Table) -> None:
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        read_parquet(path, table)
    elif kind == "json":
        table.add(str(path), read_json(path))
    elif kind == "jsonl":
        table.add(str(path), read_json_lines(path))
    else:
        table.add(str(path), read_csv(path, "\t" if kind == "tsv" else ","))


def read_csv(path: Path, delimiter: str) -> Numbered:
    """The rows below a header, by the number of their first line."""
    csv.field_size_limit(LONGEST)
    reader = csv.reader(_lines(path, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next(reader, list[str]())
        _check_header(path, header)
        line = reader.line_num + 1
        for fields in reader:
            if fields:  # else an empty line
                if len(fields) != len(header):
                    raise UserError(
                        f"{path}, line {line}, has {len(fields)} fields where the header has "
                        f"{len(header)}; put quotes around a field that has a '{delimiter}' or a "
                        "line break."
                    )
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}, is not CSV ({reason(error)}); put quotes around a field that "
            "has one, and double it inside."
        ) from None


def _check_header(path: Path, header: Sequence[str]) -> None:
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has two columns '{twice}'; rename one.")
    if any("\0" in name for name in header):
        raise UserError(f"{path} is not text in UTF-8; save it as such.")


def read_json_lines(path: Path) -> Numbered:
    """One object a line; empty lines are left out."""
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            value, end = _decoded(path, line, _blank(line, 0), number)
            if _blank(line, end) < len(line):
                raise UserError(
                    f"{path}, line {number}, has more than one value; put each on a line of "
                    "its own."
                )
            yield number, _object(f"{path}, line {number},", value)


def read_json(path: Path) -> Numbered:
    """The objects of a list, or one object after the other."""
    text = "".join(_lines(path))
    opening = _OPENING.match(text)
    at, line, counted = _blank(text, 0) if opening is None else opening.end(), 1, 0
    more = at < len(text) if opening is None else opening["closed"] is None
    while more:
        line, counted = line + text.count("\n", counted, at), at
        value, at = _decoded(path, text, at, line)
        yield line, _object(f"{path}, line {line},", value)
        if opening is None:
            at = _blank(text, at)
            more = at < len(text)
        else:
            between = _BETWEEN.match(text, at)
            if between is None:
                raise UserError(
                    f"{path}, line {line}, is not JSON (after that row neither another one "
                    "follows nor the list's end); write the file again."
                )
            at, more = between.end(), between["closed"] is None


def _blank(text: str, at: int) -> int:
    """The first position from `at` on that is not blank."""
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _decoded(path: Path, text: str, at: int, number: int) -> tuple[object, int]:
    """The value that begins at a position, and where it ends."""
    try:
        return decode(_DECODER, text, at)
    except ValueError as error:
        raise UserError(
            f"{path}, line {number}, is not JSON ({error}); write the file again."
        ) from None


def _object(place: str, value: object) -> Mapping[str, Cell]:
    if not is_mapping(value):
        raise UserError(
            f"{place} is no row, which is an object of columns such as "
            '{"text": "fine", "label": "good"}; write it so.'
        )
    return {str(name): _json_cell(cell) for name, cell in value.items()}


def _json_cell(value: object) -> Cell:
    if isinstance(value, str):
        return NoText(BROKEN) if not value.isascii() and HALF.search(value) else value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if is_list(value):
        return _texts([_json_cell(item) for item in value])
    return NoText("an object; write the text that is meant as a column of its own")


def _texts(cells: Sequence[Cell]) -> Cell:
    texts = tuple(cell for cell in cells if isinstance(cell, str))
    whole = len(texts) == len(cells)
    return texts if whole else NoText("a list of more than texts and numbers; write texts alone")


def _lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a text in UTF-8, with or without a byte order mark, plain or in gzip."""
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline=newline) as file:
            for line in file:
                number += 1
                yield line
    except UnicodeDecodeError as error:
        line = number + 1 + error.object.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}, line {line}, is not text in UTF-8 ({error.reason}); save the file in UTF-8."
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); download it again.") from None


def read_parquet(path: Path, table: Table) -> None:
    """Append the rows of a Parquet file, counted from 1."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        _check_header(path, names)
        if b"huggingface" in (file.schema_arrow.metadata or {}):
            from datasets import Features

            table.names = class_names(Features.from_arrow_schema(file.schema_arrow))
        parts = ((names, batch.columns) for batch in file.iter_batches(ROWS))
        table.add(str(path), arrow_rows(parts, table.names))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not Parquet ({reason(error)}); download it again.") from None


def read_dataset(dataset: "Dataset", place: str, table: Table) -> None:
    """Append the rows of a data set of `datasets`, counted from 1."""
    table.names = class_names(dataset.features)
    parts = ((part.column_names, part.columns) for part in dataset.with_format("arrow").iter(ROWS))
    table.add(place, arrow_rows(parts, table.names))


def class_names(features: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Column -> the names of its classes, where `datasets` knows them."""
    names = {name: getattr(feature, "names", None) for name, feature in features.items()}
    return {name: tuple(listed) for name, listed in names.items() if listed is not None}


def arrow_rows(
    parts: Iterable[tuple[Sequence[str], Sequence["Array"]]], names: Mapping[str, Sequence[str]]
) -> Numbered:
    """The rows of Arrow columns, counted from 1.

    Args:
        parts: names and columns of some rows each.
        names: column -> the names of the classes that its numbers stand for.
    """
    number = 0
    for labels, columns in parts:
        cells = [
            _arrow_cells(column, names.get(name))
            for name, column in zip(labels, columns, strict=True)
        ]
        for row in zip(*cells, strict=True):
            number += 1
            yield number, dict(zip(labels, row, strict=True))


def _arrow_cells(column: "Array", names: Sequence[str] | None) -> Sequence[Cell]:
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind):
        if not _is_text(kind.value_type):
            return [NoText(_to_cast(kind))] * len(column)
        rows = column.to_pylist()
        return [_texts([_spelled(item) for item in row]) if is_list(row) else None for row in rows]
    if not _is_text(kind):
        return [NoText(_to_cast(kind))] * len(column)
    values = column.to_pylist()
    if names is None:
        return [_spelled(value) for value in values]
    known: dict[object, str] = dict(enumerate(names))
    return [known.get(value) for value in values]  # a hidden class is -1


def _is_text(kind: "DataType") -> bool:
    from pyarrow import types

    return any(
        is_kind(kind)
        for is_kind in (
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_integer,
            types.is_null,
        )
    )


def _spelled(value: object) -> str | None:
    return None if value is None else str(value)


def _to_cast(kind: "DataType") -> str:
    return (
        f"of the type {kind}, of which dfwe does not choose a spelling; cast the column to texts "
        "when you write it (in pandas: frame[column] = frame[column].astype(str))"
    )
