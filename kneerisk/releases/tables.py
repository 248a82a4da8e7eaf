"""Tables of the releases: text with any of their delimiters, or Parquet; cells as text."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.records import Side

Row = Mapping[str, str]
"""Column in capitals → cell, stripped."""

SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".parquet", ".pq"})

_LABELLED = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*:\s*\S")
_SIDES: dict[str, Side] = {"1": "R", "2": "L", "r": "R", "l": "L", "right": "R", "left": "L"}
_SEXES: dict[str, Literal["F", "M"]] = {"1": "M", "2": "F", "m": "M", "f": "F", "male": "M", "female": "F"}
_YES = {"1": True, "0": False, "yes": True, "no": False, "true": True, "false": False}


class Table:
    """A table whose header was read and checked; iterating it streams its rows."""

    def __init__(self, path: Path, required: Iterable[str] = ()) -> None:
        """Read the header.

        Raises:
            UsageError: the file cannot be read, has no header, names a column twice, or lacks a required one.
        """
        self.path = path
        self._encoding, self._delimiter, self._skip = "utf-8-sig", ",", 0
        header = self._parquet_header() if self._is_parquet else self._text_header()
        self.columns = tuple(name.strip().strip("\"'").upper() for name in header)
        twice = sorted({name for name in self.columns if name and self.columns.count(name) > 1})
        if twice:
            raise UsageError(f"{path}: columns appear twice: {', '.join(twice)}; remove one of each")
        missing = [name for name in required if name not in self.columns]
        if missing:
            raise UsageError(
                f"{path}: no column is called {' or '.join(missing)} (found: {_listed(self.columns)}); "
                "is this the table as distributed?"
            )

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Line number (from 1, the header's is 1) and cells.

        Raises:
            UsageError: a line has more or fewer cells than the header, or cannot be decoded.
        """
        for line, cells in self._parquet_rows() if self._is_parquet else self._text_rows():
            if len(cells) != len(self.columns):
                raise UsageError(
                    f"{self.path}: line {line} has {len(cells)} cells, and the header names "
                    f"{len(self.columns)} columns; copy the table again, or mend the line"
                )
            row = dict(zip(self.columns, (cell.strip() for cell in cells), strict=True))
            if line == 2 and self._describes(row):
                continue
            yield line, row

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.casefold() in (".parquet", ".pq")

    def _describes(self, row: Row) -> bool:
        """Whether the second line explains the columns, as NDA's packages have it."""
        return any(" " in row.get(name, "") for name in ("SUBJECTKEY", "SRC_SUBJECT_ID"))

    def _text_header(self) -> list[str]:
        try:
            try:
                with self.path.open(encoding=self._encoding) as file:
                    for _ in file:
                        pass
            except UnicodeDecodeError:
                self._encoding = "cp1252"
            with self.path.open(encoding=self._encoding, newline="") as file:
                first = file.readline()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self.path} cannot be read ({error}); check the file") from error
        self._delimiter = max("|\t,;", key=first.count)
        for _, cells in self._text_lines():
            return cells
        raise UsageError(f"{self.path} is empty; copy the table again")

    def _text_rows(self) -> Iterator[tuple[int, list[str]]]:
        lines = self._text_lines()
        next(lines)
        yield from lines

    def _text_lines(self) -> Iterator[tuple[int, list[str]]]:
        quoting = csv.QUOTE_NONE if self._delimiter == "|" else csv.QUOTE_MINIMAL
        try:
            with self.path.open(encoding=self._encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self._delimiter, quoting=quoting)  # type: ignore[arg-type]
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        yield reader.line_num, cells
        except (OSError, csv.Error) as error:
            raise UsageError(f"{self.path} is no readable table ({error}); copy it again") from error

    def _parquet_header(self) -> list[str]:
        import polars as pl

        try:
            return list(pl.read_parquet_schema(self.path))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(f"{self.path} is no readable Parquet table ({error}); write it again") from error

    def _parquet_rows(self) -> Iterator[tuple[int, list[str]]]:
        import polars as pl

        for line, values in enumerate(pl.read_parquet(self.path).iter_rows(), start=2):
            yield line, ["" if value is None else _as_text(value) for value in values]


def is_missing(cell: str) -> bool:
    """Empty, ``.``, or one of OAI's labelled codes: ``.A: Not Expected``, ``.: Missing Form/…``."""
    return (
        cell in ("", ".")
        or bool(re.match(r"\.[A-Z]?(:|$)", cell))
        or cell.casefold() in ("na", "nan", "null")
    )


def code_of(cell: str) -> str:
    """A cell without its label: ``1: Right`` → ``1``."""
    labelled = _LABELLED.match(cell)
    return labelled.group(1) if labelled else cell.strip()


def side_of(cell: str) -> Side | None:
    """1 or R → right, 2 or L → left; ``None`` for anything else."""
    return _SIDES.get(code_of(cell).casefold())


def sex_of(cell: str) -> Literal["F", "M"] | None:
    """1 or M → male, 2 or F → female; ``None`` for anything else."""
    return _SEXES.get(code_of(cell).casefold())


def yes_of(cell: str) -> bool | None:
    """1 or yes, 0 or no; ``None`` for anything else, missing codes among it."""
    return _YES.get(code_of(cell).casefold())


def number_of(cell: str) -> float | None:
    """A number; ``None`` for missing codes and for anything that is no finite number."""
    if is_missing(cell):
        return None
    try:
        value = float(code_of(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def grade_of(cell: str) -> int | None:
    """A Kellgren-Lawrence grade, 0 to 4; ``None`` for every other number, code or word."""
    value = number_of(cell)
    return int(value) if value in (0, 1, 2, 3, 4) else None


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # ids and grades often became floats on the way
    return str(value)


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
