"""A manifest: a CSV, TSV or Parquet table whose rows say which files to read, and what is known of them.

``kneerisk score`` and ``kneerisk prepare folder`` read the same columns: ``path``, ``participant_id``,
``visit``, ``side``, ``spacing_mm``, ``kl_0m``; and know them under other names too (:data:`ALIASES`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.kinds import NOTHING, Guess
from kneerisk.radiograph.sources.tables import Row, Table, parquet_kinds, parsed
from kneerisk.records import CarriedKind, Side

SUFFIXES = frozenset({".csv", ".tsv", ".parquet", ".pq"})
"""Extensions by which an input is taken for a manifest."""

COLUMNS = ("path", "participant_id", "visit", "side", "spacing_mm", "kl_0m")
"""Columns that are understood; any other is carried through."""
ALIASES = {
    "file": "path",
    "visit_month": "visit",
    "kl_grade": "kl_0m",
    "kl": "kl_0m",
    "patientid": "participant_id",
    "patient_id": "participant_id",
    "participantid": "participant_id",
    "subject_id": "participant_id",
    "laterality": "side",
}
"""Other names of columns, understood where the column itself is missing."""

_LIKELY = {
    "path": ("filename", "filepath", "image", "imagename", "imagepath", "imagefile", "dicom", "dicompath"),
    "participant_id": ("id", "pid", "subject", "subjid", "patient", "participant", "studyid", "caseid"),
    "side": ("kneeside", "leftright", "lr", "lat"),
    "spacing_mm": ("spacing", "pixelspacing", "pxspacing", "pixelspacingmm", "mmperpixel"),
    "kl_0m": ("klg", "klscore", "kl0", "kl00", "klbaseline", "xrkl", "v00xrkl", "kellgrenlawrence"),
}
"""What columns are often called, in small letters and digits alone: suggested, not taken."""
_NEAR = 0.81
"""Names as much alike as this (difflib's ratio) are taken for slips of the pen."""
_SIDES: dict[str, Side | Literal["both"]] = {
    "l": "L",
    "left": "L",
    "r": "R",
    "right": "R",
    "b": "both",
    "both": "both",
    "bilateral": "both",
}


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row, checked.  ``line`` counts the file's lines (text, from 1) or rows (Parquet, from 1)."""

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


def is_given(cell: str) -> bool:
    """Whether a cell says something: it is not empty, NA, NaN, null, none or "."."""
    return cell.casefold() not in NOTHING


def open_manifest(path: Path) -> Table:
    """Read a manifest's header.

    Raises:
        UsageError: it cannot be read, names a column twice, or has none of files.
    """
    return Table(path, partial(_names, path), padded=True)


def is_manifest(path: Path) -> bool:
    """Whether a table that lies among radiographs lists files."""
    try:
        open_manifest(path)
    except UsageError:
        return False
    return True


def check_manifest(path: Path) -> dict[str, CarriedKind]:
    """Read a manifest through and say of what kind each of its own columns is.

    Raises:
        UsageError: a column or cell is wrong; the message lists the first five lines to mend.
    """
    guesses: dict[str, Guess] = {}
    for row in read_manifest(path):
        for name, cell in row.extra.items():
            guesses.setdefault(name, Guess()).add(cell)
    told = parquet_kinds(path) if path.suffix.casefold() in (".parquet", ".pq") else {}
    return {name: told.get(name, guess.kind) for name, guess in guesses.items()}


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """Rows of a manifest in its own order, one at a time; `check_manifest` goes first.

    Ids stay text ("0012", "NA"). Empty cells and NA, NaN, null, none and "." mean "not given" in ``side``,
    ``spacing_mm`` and ``kl_0m``; a decimal comma is a point.
    """
    table = open_manifest(path)
    _check_near_misses(table)

    def checked(line: int, cells: Row) -> ManifestRow:
        row = manifest_row(table.written, line, cells)
        for text in (row.path, row.participant_id, row.visit):
            if table.encoding_guessed and text is not None and not text.isascii():
                raise ValueError(
                    f"{text!r} may be other letters: the table is not in UTF-8; save it as CSV UTF-8"
                )
        return row

    return parsed(table, checked)


def read_by_film(path: Path) -> Iterator[ManifestRow]:
    """Rows of a manifest in its own order, but those of one file together, where its first one stands.

    A manifest with a row a knee names a film of both knees twice, side by side or far apart; so it can be
    read once.
    """
    apart: dict[str, list[ManifestRow]] = {}
    seen: set[str] = set()
    last = None
    for row in read_manifest(path):
        if row.path != last and row.path in seen:
            apart.setdefault(row.path, []).append(row)
        else:
            seen.add(row.path)
            last = row.path
    held = {row.line for rows in apart.values() for row in rows}
    others = (row for row in read_manifest(path) if row.line not in held)
    for name, rows in groupby(others, key=lambda row: row.path):
        yield from rows
        yield from apart.get(name, ())


def manifest_row(written: Mapping[str, str], line: int, cells: Row) -> ManifestRow:
    """One row of a table that :func:`open_manifest` opened.

    Args:
        written: the table's ``written``: messages name columns as the file does.
        line: its number.
        cells: by column.

    Raises:
        ValueError: a cell is wrong, in words for the user.
    """

    def cell(name: str) -> str | None:
        value = cells.get(name, "")
        return value if is_given(value) else None

    path = cells["path"]
    if not path:
        raise ValueError("the path is empty")
    side = None
    if (text := cell("side")) is not None and (side := parse_side(text)) is None:
        raise ValueError(f"side is {text!r}; write L, R or both, or leave it empty")
    spacing = None
    if (text := cell("spacing_mm")) is not None:
        spacing = number_in(text)
        if spacing is None or not 0 < spacing < math.inf:
            raise ValueError(
                f"spacing_mm is {text!r}; write millimetres per pixel such as 0.143, or leave it empty"
            )
    grade = None
    if (text := cell("kl_0m")) is not None:
        number = number_in(text)
        if number not in (0, 1, 2, 3, 4):
            raise ValueError(f"{written['kl_0m']} is {text!r}; write a grade from 0 to 4, or leave it empty")
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


def number_in(text: str) -> float | None:
    """A number, with a decimal point or comma; ``None`` where it is none."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _check_near_misses(table: Table) -> None:
    """Refuse a column that would be carried through, and whose name is all but one that is understood."""
    for name in table.columns:
        column = _meant(name)
        if name not in COLUMNS and column is not None and column not in table.columns:
            raise UsageError(
                f"{table.path}: the column {name!r} is not used, and may be meant as {column!r}: rename "
                "it to that, or to something less like it"
            )


def _meant(name: str) -> str | None:
    """The column that a name may stand for."""
    near = difflib.get_close_matches(name.casefold(), (*COLUMNS, *ALIASES), n=1, cutoff=_NEAR)
    if near:
        return ALIASES.get(near[0], near[0])
    plain = "".join(letter for letter in name.casefold() if letter.isalnum())
    return next((column for column, words in _LIKELY.items() if plain in words), None)


def _names(path: Path, header: list[str]) -> list[str]:
    """Names as they are used: known ones in lower case, aliases as what they stand for."""
    plain = [name.casefold() for name in header]
    names = []
    for name, lower in zip(header, plain, strict=True):
        meant = ALIASES.get(lower, lower)
        understood = lower in COLUMNS or (meant in COLUMNS and meant not in plain)
        names.append(meant if understood else name)
    if "path" not in names:
        found = ", ".join(name for name in header if name) or "none"
        likely = next((name for name in header if _meant(name) == "path"), None)
        what = "name the column of files" if likely is None else f"if {likely!r} names the files, call it"
        raise UsageError(f"{path}: no column is called 'path' (found: {found}); {what} 'path'")
    return names
