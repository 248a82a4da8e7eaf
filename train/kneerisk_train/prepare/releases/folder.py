"""Any folder of knee radiographs, or a manifest that names them and what is known of each knee.

A manifest is CSV, TSV or Parquet, one row for each knee and visit (or radiograph, without ``side``): the file
given as ROOT, or ``manifest.csv``, ``.tsv`` or ``.parquet`` in the folder given.  It is the manifest of
``kneerisk score`` (:mod:`kneerisk.radiograph.sources.manifest`)::

    path (or file)           relative to the manifest, or absolute; needed
    participant_id           needed; text, always
    visit (or visit_month)   months since enrolment; 0 where the column is missing
    side                     L, R, or empty where the radiograph shows both
    kl_0m (or kl_grade, kl)  the reader's grade at this visit, 0 to 4, or empty
    spacing_mm               mm per pixel

with more columns that ``score`` carries through::

    mm_per_px_x, mm_per_px_y (where they differ); inverted (true or false)
    split, site, age, sex, bmi, womac, injury, surgery, tkr, tkr_month

Without a manifest the first folder names the participant, a folder such as ``12m`` the visit; there are no
grades then.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.manifest import (
    ALIASES,
    COLUMNS,
    is_given,
    manifest_row,
    number_in,
    open_manifest,
)
from kneerisk.radiograph.sources.tables import Row, parsed
from kneerisk.records import Side
from kneerisk.releases.cells import is_missing, number_of, sex_of, yes_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import Background, KneeKey, Reading
from kneerisk_train.prepare.release import Release, ReleaseImage
from kneerisk_train.prepare.releases.tree import FILES, check_root, is_image, walk

_EXTRAS = (
    *("mm_per_px_x", "mm_per_px_y", "inverted"),
    *(field.name for field in fields(Background)),
)
_MONTH = re.compile(r"(?:^|[_-])(\d{1,3})m$", re.IGNORECASE)
_SIDE_AT_END = re.compile(r"[_ -]?[LR]$", re.IGNORECASE)
_MANIFEST_NAMES = ("manifest.csv", "manifest.tsv", "manifest.parquet")


def open_folder(root: Path) -> Release:
    """List the radiographs of a folder or a manifest.

    Raises:
        UsageError: ROOT is missing, the manifest's columns or cells are wrong, or there is no radiograph.
    """
    if root.is_file():
        return _from_manifest(root.parent, root)
    check_root(root)
    manifests = [root / name for name in _MANIFEST_NAMES if (root / name).is_file()]
    if len(manifests) > 1:
        names = " and ".join(path.name for path in manifests)
        raise UsageError(f"{root} holds {names}: give the one to use as ROOT")
    return _from_manifest(root, manifests[0]) if manifests else _from_paths(root)


@dataclass(frozen=True, slots=True)
class _KneeRow:
    """One row of a manifest, checked."""

    line: int
    image: ReleaseImage
    side: Side | None
    reading: Reading | None
    background: Background


def _from_manifest(root: Path, manifest: Path) -> Release:
    ledger = Ledger()
    section = f"rows of {manifest.name}"
    rows = list(_checked_rows(manifest))
    readings: dict[KneeKey, Reading] = {}
    known: dict[KneeKey, Background] = {}
    visits: dict[tuple[str, int], Background] = {}
    by_path: defaultdict[str, list[_KneeRow]] = defaultdict(list)
    missing = set()
    for path in {row.image.path for row in rows}:
        if not (root / path).is_file():
            missing.add(path)
    for row in rows:
        ledger.expect(section)
        image = row.image
        visits.setdefault((image.participant_id, image.visit_month), row.background)
        outcome = "used"
        if row.side is not None:
            key = KneeKey(image.participant_id, image.visit_month, row.side)
            known.setdefault(key, row.background)
            outcome = _put_reading(key, row.reading, readings)
        if image.path in missing:
            outcome = "left out: its radiograph is not here"
        else:
            by_path[image.path].append(row)
        ledger.add(section, outcome, f"line {row.line}: {image.path}")
    images = [_one_image(manifest, group) for group in by_path.values()]
    if not images:
        raise UsageError(
            f"{manifest}: none of its {len(rows)} radiographs is here; paths are relative to {root}"
        )
    _count_files(root, manifest, {image.path for image in images}, ledger)

    def background(key: KneeKey) -> Background:
        return known.get(key) or visits.get((key.participant_id, key.visit_month)) or Background()

    return Release("folder", root, images, readings, background, ledger)


def _put_reading(key: KneeKey, reading: Reading | None, readings: dict[KneeKey, Reading]) -> str:
    """Note a reading; what became of its row."""
    if reading is None:
        return "used, with no grade"
    before = readings.setdefault(key, reading)
    if before == reading:
        return "used"
    readings[key] = Reading(None, "readings disagree")
    return "contradicts another row of the knee and visit: no grade is taken"


def _one_image(manifest: Path, rows: list[_KneeRow]) -> ReleaseImage:
    """The radiograph that several rows name: both of its knees, or the one that is asked for."""
    first = rows[0].image
    for row in rows[1:]:
        if (row.image.participant_id, row.image.visit_month) != (first.participant_id, first.visit_month):
            raise UsageError(
                f"{manifest}: lines {rows[0].line} and {row.line} name one file, {first.path}, for two "
                "participants or visits; mend one of them"
            )
    asked = {row.image.side for row in rows}
    sides: Side | Literal["both"] | None = asked.pop() if len(asked) == 1 else "both"
    return ReleaseImage(
        first.path, first.participant_id, first.visit_month, sides, first.spacing_mm, first.inverted
    )


def _checked_rows(manifest: Path) -> Iterator[_KneeRow]:
    table = open_manifest(manifest)
    if "participant_id" not in table.columns:
        raise UsageError(
            f"{manifest}: it needs one column called participant_id (found: {', '.join(table.columns)})"
        )
    known = (*COLUMNS, *ALIASES, *_EXTRAS)
    for name in table.columns:
        if name and name.casefold() not in (*COLUMNS, *_EXTRAS):
            close = difflib.get_close_matches(name.casefold(), known, 1)
            hint = f": did you mean {close[0]}?" if close else ""
            raise UsageError(
                f"{manifest}: column {name} is not known{hint} Rename it, or take it out; known are "
                f"{', '.join(known)}"
            )
    return parsed(table, partial(_row, table.written))


def _row(written: Mapping[str, str], line: int, cells: Row) -> _KneeRow:
    row = manifest_row(written, line, cells)
    extra = {name.casefold(): cell or "" for name, cell in row.extra.items()}

    def number(name: str) -> float | None:
        cell = extra.get(name, "")
        value = number_of(cell)
        if value is None and not is_missing(cell):
            raise ValueError(f"{name} is {cell!r}, and should be a number or empty")
        return value

    if row.participant_id is None:
        raise ValueError("participant_id is empty")
    month = _month(row.visit or "", written)
    side = None if row.side == "both" else row.side
    if row.kl_0m is not None and side is None:
        raise ValueError(f"{written['kl_0m']} needs a side: give each knee a row of its own")
    across, down, square = number("mm_per_px_x"), number("mm_per_px_y"), row.spacing_mm
    spacing = (down, across) if across and down else (square, square) if square else None
    inverted = yes_of(extra.get("inverted", "")) is True
    path = str(PurePosixPath(row.path.replace("\\", "/")))
    return _KneeRow(
        line,
        ReleaseImage(path, row.participant_id, month, row.side, spacing, inverted),
        side,
        None if row.kl_0m is None else Reading(row.kl_0m),
        Background(
            tkr=yes_of(extra.get("tkr", "")),
            tkr_month=number("tkr_month"),
            site=extra.get("site") or None,
            age=number("age"),
            sex=sex_of(extra.get("sex", "")),
            bmi=number("bmi"),
            womac=number("womac"),
            injury=yes_of(extra.get("injury", "")),
            surgery=yes_of(extra.get("surgery", "")),
            split=extra.get("split") or None,
        ),
    )


def _month(visit: str, written: Mapping[str, str]) -> int:
    """A visit as whole months; the first where nothing is said."""
    if not is_given(visit):
        return 0
    month = number_in(visit)
    if month is None or not month.is_integer() or month < 0:
        raise ValueError(f"{written['visit']} is {visit!r}, and should be a whole number of months or empty")
    return int(month)


def _count_files(root: Path, manifest: Path, used: set[str], ledger: Ledger) -> None:
    """Account for every file beside the manifest and below."""
    for path, entry in walk(root, lambda folder, files: lambda inside: True):
        ledger.expect(FILES)
        if path in used:
            ledger.add(FILES, "radiographs to read")
        elif Path(entry.path) == manifest:
            ledger.add(FILES, "a table that is read")
        elif is_image(path, entry, ledger):
            ledger.add(FILES, "left out: not in the manifest", path)


def _from_paths(root: Path) -> Release:
    ledger, images = Ledger(), []
    for path, entry in walk(root, lambda folder, files: lambda inside: True):
        ledger.expect(FILES)
        if not is_image(path, entry, ledger):
            continue
        ledger.add(FILES, "radiographs to read")
        parts = PurePosixPath(path).parts
        who = parts[0] if len(parts) > 1 else _SIDE_AT_END.sub("", PurePosixPath(path).stem)
        months = [int(m.group(1)) for part in parts[:-1] if (m := _MONTH.search(part)) is not None]
        images.append(ReleaseImage(path, who, months[-1] if months else 0, None))
    if not images:
        raise UsageError(f"{root} holds no radiograph (DICOM, PNG, JPEG or TIFF), and no manifest.csv")
    return Release("folder", root, images, {}, lambda key: Background(), ledger)
