"""Tables that a person hands in, as rows of text: delimited text in any dialect, or Parquet."""

from __future__ import annotations

import codecs
import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from kneerisk.errors import UsageError
from kneerisk.frames import parquet_schema, read_parquet
from kneerisk.records import CarriedKind

T = TypeVar("T")

Row = Mapping[str, str]
"""Column → cell, stripped; empty where nothing is given."""
Naming = Callable[[list[str]], list[str]]
"""A header's names as written → as they are used, in the same order."""

_MAX_PROBLEMS = 5
_TOLD_DELIMITER = re.compile(r"\"?sep=([,;|\t])\"?", re.IGNORECASE)
"""Excel's own first line: which delimiter the rest has."""
_WINDOWS = "cp1252"


class Table:
    """A table whose header was read and checked; iterating it streams its rows.

    Text is UTF-8, UTF-16 by its mark, or else Western Windows' code page. Its delimiter is a comma, a
    semicolon, a tab or a bar, whichever the header has most of. CRLF, stray spaces, empty lines and empty
    cells at a line's end are forgiven. Whole floats of Parquet lose their ".0", for ids often became floats
    on the way.
    """

    def __init__(self, path: Path, name: Naming, *, padded: bool) -> None:
        """Read the header.

        Args:
            path: ``.parquet`` or ``.pq``, or else text.
            name: how columns are called here; one without a name is passed over.
            padded: whether a line with fewer cells than the header is one whose last cells are empty; else it
                is torn.

        Raises:
            UsageError: the file cannot be read, has no header, or names a column twice.
        """
        self.path = path
        self._padded = padded
        if not self._is_parquet:
            self._encoding = _encoding(path)
            self._told = False
            self._delimiter = "\t" if path.suffix.casefold() == ".tsv" else ","
        self.encoding_guessed = not self._is_parquet and self._encoding == _WINDOWS
        """Whether letters beyond ASCII may be others than those written."""
        header = self._parquet_header() if self._is_parquet else self._text_header()
        written = [cell.strip() for cell in header]
        self.columns = tuple(name(written))
        self.written = dict(zip(self.columns, written, strict=True))
        """Column → its name in the file."""
        twice = [column for column in sorted(set(self.columns)) if column and self.columns.count(column) > 1]
        if twice:
            alike = [one for one, column in zip(written, self.columns, strict=True) if column == twice[0]]
            raise UsageError(
                f"{path}: columns appear twice: {', '.join(twice)} (written {', '.join(alike)}); rename or "
                "remove one of each"
            )

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Number and cells of each row: of the file's line (from 1) or of Parquet's row (from 1).

        Raises:
            UsageError: a line has more or fewer cells than the header, or cannot be decoded.
        """
        width = len(self.columns)
        for line, cells in self._parquet_rows() if self._is_parquet else self._text_rows():
            if any(cells[width:]) or (len(cells) < width and not self._padded):
                raise UsageError(
                    f"{self.path}: line {line} has {len(cells)} cells, and the header names {width} columns; "
                    "put quotes around a cell that contains the delimiter, or copy the table again"
                )
            cells += [""] * (width - len(cells))
            yield line, {name: cell for name, cell in zip(self.columns, cells, strict=False) if name}

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.casefold() in (".parquet", ".pq")

    def _text_header(self) -> list[str]:
        try:
            with self.path.open(encoding=self._encoding, newline="") as file:
                first = next((line for line in file if line.strip()), "")
                if (told := _TOLD_DELIMITER.fullmatch(first.strip(" \r\n"))) is not None:
                    self._delimiter, self._told = told[1], True
                    first = ""
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self.path} cannot be read ({error}); check the file") from error
        if self._delimiter != "\t" and not self._told:
            self._delimiter = max(",;\t|", key=first.count)
        for _, cells in self._text_lines():
            return cells
        raise UsageError(f"{self.path} is empty; it needs a header line that names its columns")

    def _text_rows(self) -> Iterator[tuple[int, list[str]]]:
        lines = self._text_lines()
        next(lines)
        yield from lines

    def _text_lines(self) -> Iterator[tuple[int, list[str]]]:
        quoting = csv.QUOTE_NONE if self._delimiter == "|" else csv.QUOTE_MINIMAL
        try:
            with self.path.open(encoding=self._encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self._delimiter, quoting=quoting, skipinitialspace=True)  # type: ignore[arg-type]
                if self._told:
                    next(reader)
                for cells in reader:
                    cells = [cell.strip().strip("\x00") for cell in cells]
                    if any(cells):
                        yield reader.line_num, cells
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read ({error.strerror}); check the file") from error
        except (csv.Error, UnicodeError) as error:
            raise UsageError(
                f"{self.path} is no readable table ({error}); copy it again, or save it as CSV in UTF-8"
            ) from error

    def _parquet_header(self) -> list[str]:
        import polars as pl

        try:
            return parquet_schema(self.path).names()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(f"{self.path} is no readable Parquet table ({error}); write it again") from error

    def _parquet_rows(self) -> Iterator[tuple[int, list[str]]]:
        import polars as pl

        try:
            frame = read_parquet(self.path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(f"{self.path} is no readable Parquet table ({error}); write it again") from error
        for row, values in enumerate(frame.iter_rows(), start=1):
            yield row, [_as_text(value) for value in values]


def parquet_kinds(path: Path) -> dict[str, CarriedKind]:
    """Column → kind, by the types of a Parquet file; times, lists and categories are text."""
    import polars as pl

    kinds: dict[str, CarriedKind] = {}
    for name, kind in parquet_schema(path).items():
        if kind.is_integer() and kind not in (pl.UInt64, pl.Int128):
            kinds[name] = "integer"
        elif kind.is_float() or kind.is_decimal():
            kinds[name] = "real"
        else:
            kinds[name] = "boolean" if kind == pl.Boolean else "date" if kind == pl.Date else "text"
    return kinds


def parsed(table: Table, parse: Callable[[int, Row], T]) -> Iterator[T]:
    """Each row as ``parse`` makes it of its number and cells; up to the first one that is wrong.

    Raises:
        UsageError: ``parse`` raised ValueError; the message lists the first five lines to mend.
    """
    problems: list[str] = []
    for line, cells in table:
        try:
            row = parse(line, cells)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if not problems:
            yield row
    if problems:
        listed = "\n  ".join(problems[:_MAX_PROBLEMS])
        more = len(problems) - _MAX_PROBLEMS
        rest = f"\n  … and {more} more" if more > 0 else ""
        raise UsageError(f"{table.path}: mend these rows and run again:\n  {listed}{rest}")


def _encoding(path: Path) -> str:
    """UTF-8 with or without a mark, UTF-16 by its mark, else the code page of Western Windows."""
    try:
        with path.open("rb") as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return "utf-16"
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _WINDOWS
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
    return "utf-8-sig"


def _as_text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
