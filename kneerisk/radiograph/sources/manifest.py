"""A manifest: a CSV, TSV or Parquet table whose rows say which files to score, and what is known of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.records import Side

SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
"""Extensions by which an input is taken for a manifest."""

COLUMNS = ("path", "participant_id", "visit", "side", "spacing_mm", "kl_0m")
"""Columns that are understood; any other is carried through as text."""

_NOTHING = frozenset({"", ".", "na", "n/a", "nan", "null", "none"})
_SIDES: dict[str, Side | Literal["both"]] = {
    "l": "L",
    "left": "L",
    "r": "R",
    "right": "R",
    "b": "both",
    "both": "both",
    "bilateral": "both",
}
_MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row, checked.  ``line`` counts the file's lines (CSV, from 1) or rows (Parquet, from 1)."""

    line: int
    path: str
    participant_id: str | None
    visit: str | None
    side: Side | Literal["both"] | None
    spacing_mm: float | None
    kl_0m: int | None
    extra: Mapping[str, str | None]


def parse_side(text: str) -> Side | Literal["both"] | None:
    """``L``, ``R`` or ``both`` from a word such as "left" or "B"; ``None`` for any other word."""
    return _SIDES.get(text.strip().casefold())


def check_manifest(manifest: Path) -> int:
    """Read a manifest through and count its rows.

    Raises:
        UsageError: a column or cell is wrong; the message lists the first five lines to mend.
    """
    problems: list[str] = []
    count = 0
    for line, cells in _rows(manifest):
        count += 1
        try:
            _row(line, cells)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        listed = "\n  ".join(problems[:_MAX_PROBLEMS])
        more = len(problems) - _MAX_PROBLEMS
        rest = f"\n  … and {more} more" if more > 0 else ""
        raise UsageError(f"{manifest}: mend these rows and run again:\n  {listed}{rest}")
    return count


def read_manifest(manifest: Path) -> Iterator[ManifestRow]:
    """Rows of a manifest in its own order, one at a time; `check_manifest` goes first.

    Ids stay text ("0012", "NA"). A byte-order mark, CRLF, stray spaces and empty lines are forgiven, so are
    semicolons for commas; empty cells and NA, NaN, null, none and "." mean "not given" in ``side``,
    ``spacing_mm`` and ``kl_0m``.
    """
    for line, cells in _rows(manifest):
        yield _row(line, cells)


def _row(line: int, cells: Mapping[str, str | None]) -> ManifestRow:
    def cell(name: str) -> str | None:
        value = cells.get(name)
        return None if value is None or value.casefold() in _NOTHING else value

    path = cells.get("path")
    if not path:
        raise ValueError("the path is empty")
    side = None
    if (text := cell("side")) is not None and (side := parse_side(text)) is None:
        raise ValueError(f"side is {text!r}; write L, R or both, or leave it empty")
    spacing = None
    if (text := cell("spacing_mm")) is not None:
        spacing = _number(text)
        if spacing is None or not 0 < spacing < math.inf:
            raise ValueError(
                f"spacing_mm is {text!r}; write millimetres per pixel such as 0.143, or leave it empty"
            )
    grade = None
    if (text := cell("kl_0m")) is not None:
        number = _number(text)
        if number not in (0, 1, 2, 3, 4):
            raise ValueError(f"kl_0m is {text!r}; write a grade from 0 to 4, or leave it empty")
        grade = int(number)
    return ManifestRow(
        line=line,
        path=path,
        participant_id=cells.get("participant_id") or None,
        visit=cells.get("visit") or None,
        side=side,
        spacing_mm=spacing,
        kl_0m=grade,
        extra={name: value or None for name, value in cells.items() if name not in COLUMNS},
    )


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _rows(manifest: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    if manifest.suffix.casefold() in (".parquet", ".pq"):
        return _parquet_rows(manifest)
    return _text_rows(manifest)


def _names(manifest: Path, header: list[str]) -> list[str]:
    """Column names as they are used: known ones in lower case, none twice, `path` among them."""
    names = [name.strip() for name in header]
    names = [name.casefold() if name.casefold() in COLUMNS else name for name in names]
    if "path" not in names:
        found = ", ".join(name for name in names if name) or "none"
        raise UsageError(
            f"{manifest}: no column is called 'path' (found: {found}); name the column of files 'path'"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UsageError(
            f"{manifest}: columns appear twice: {', '.join(twice)}; rename or remove one of each"
        )
    return names


def _text_rows(manifest: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    encoding = _encoding(manifest)
    try:
        with manifest.open(encoding=encoding, newline="") as file:
            first = file.readline()
            file.seek(0)
            delimiter = "\t" if manifest.suffix.casefold() == ".tsv" else max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
            names: list[str] | None = None
            for cells in reader:
                cells = [cell.strip().strip("\x00") for cell in cells]
                if not any(cells):
                    continue
                if names is None:
                    names = _names(manifest, cells)
                    continue
                if any(cells[len(names) :]):
                    raise UsageError(
                        f"{manifest}: line {reader.line_num} has {len(cells)} cells, and the header names "
                        f"{len(names)} columns; put quotes around a cell that contains {delimiter!r}"
                    )
                cells += [""] * (len(names) - len(cells))
                yield reader.line_num, dict(_named(names, cells))
            if names is None:
                raise UsageError(f"{manifest} is empty; it needs a header line with a column called 'path'")
    except OSError as error:
        raise UsageError(
            f"{manifest} cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
    except (csv.Error, UnicodeError) as error:
        raise UsageError(
            f"{manifest} is no readable table ({error}); save it again as CSV in UTF-8"
        ) from error


def _named(names: list[str], cells: list[str]) -> Iterator[tuple[str, str | None]]:
    return ((name, cell or None) for name, cell in zip(names, cells, strict=False) if name)


def _encoding(manifest: Path) -> str:
    """UTF-8 with or without a mark, UTF-16 by its mark, else the code page of Western Windows."""
    import codecs

    try:
        with manifest.open("rb") as file:
            if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                return "utf-16"
            file.seek(0)
            decoder = codecs.getincrementaldecoder("utf-8")()
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    except OSError as error:
        raise UsageError(
            f"{manifest} cannot be read ({error.strerror}); check the file and its permissions"
        ) from error
    return "utf-8-sig"


def _parquet_rows(manifest: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    import polars as pl

    try:
        frame = pl.read_parquet(manifest)
    except OSError as error:
        raise UsageError(
            f"{manifest} cannot be read ({error}); check the file and its permissions"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"{manifest} is no readable Parquet table ({error}); write it again") from error
    names = _names(manifest, frame.columns)
    for line, values in enumerate(frame.iter_rows(), start=1):
        yield line, {name: _as_text(value) for name, value in zip(names, values, strict=True) if name}


def _as_text(value: object) -> str | None:
    """Write a Parquet cell as text: whole floats lose their ".0", for ids often became floats on the way."""
    if value is None:
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value))
    return str(value).strip() or None
