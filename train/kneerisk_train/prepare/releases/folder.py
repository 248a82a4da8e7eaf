"""Any folder of knee radiographs, or a manifest that names them and what is known of each knee.

A manifest is CSV, TSV or Parquet, one row for each knee and visit (or radiograph, without ``side``): the file
given as ROOT, or ``manifest.csv``, ``.tsv`` or ``.parquet`` in the folder given.  Columns::

    path (or file)           relative to the manifest, or absolute; needed
    participant_id           needed; text, always
    visit_month (or visit)   months since enrolment; 0 where the column is missing
    side                     L, R, or empty where the radiograph shows both
    kl_grade                 0 to 4, or empty
    spacing_mm, or mm_per_px_x and mm_per_px_y; inverted (true or false)
    split, site, age, sex, bmi, womac, injury, surgery, tkr, tkr_month

Without a manifest the first folder names the participant, a folder such as ``12m`` the visit; there are no
grades then.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.records import Side
from kneerisk_train.prepare.ledger import Ledger
from kneerisk_train.prepare.release import Background, KneeKey, Reading, Release, ReleaseImage
from kneerisk_train.prepare.releases.tables import (
    Row,
    Table,
    grade_of,
    is_missing,
    number_of,
    sex_of,
    side_of,
    yes_of,
)
from kneerisk_train.prepare.releases.tree import FILES, check_root, is_image, walk

_ALIASES = {"FILE": "PATH", "VISIT": "VISIT_MONTH", "KL": "KL_GRADE", "KL_0M": "KL_GRADE"}
_BACKGROUND = tuple(field.name.upper() for field in fields(Background))
_COLUMNS = (
    *("PATH", "PARTICIPANT_ID", "VISIT_MONTH", "SIDE", "KL_GRADE"),
    *("SPACING_MM", "MM_PER_PX_X", "MM_PER_PX_Y", "INVERTED"),
    *_BACKGROUND,
)
_BOTH = ("both", "b", "bilateral")
_MONTH = re.compile(r"(?:^|[_-])(\d{1,3})m$", re.IGNORECASE)
_SIDE_AT_END = re.compile(r"[_ -]?[LR]$", re.IGNORECASE)
_MANIFEST_NAMES = ("manifest.csv", "manifest.tsv", "manifest.parquet")
_MOST_PROBLEMS = 5


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
    table = Table(manifest)
    names = [_ALIASES.get(name, name) for name in table.columns]
    for column in ("PATH", "PARTICIPANT_ID"):
        if names.count(column) != 1:
            raise UsageError(
                f"{manifest}: it needs one column called {column.lower()} "
                f"(found: {', '.join(name.lower() for name in table.columns)})"
            )
    for name, known_as in zip(table.columns, names, strict=True):
        if known_as not in _COLUMNS:
            close = difflib.get_close_matches(known_as, _COLUMNS, 1)
            hint = f": did you mean {close[0].lower()}?" if close else ""
            raise UsageError(
                f"{manifest}: column {name.lower()} is not known{hint} Rename it, or take it out; known are "
                f"{', '.join(c.lower() for c in _COLUMNS)}"
            )
    problems: list[str] = []
    for line, cells in table:
        try:
            row = _row(line, {_ALIASES.get(name, name): cell for name, cell in cells.items()})
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if not problems:
            yield row
    if problems:
        listed = "\n  ".join(problems[:_MOST_PROBLEMS])
        rest = len(problems) - _MOST_PROBLEMS
        more = f"\n  … and {rest} more" if rest > 0 else ""
        raise UsageError(f"{manifest}: mend these rows and run again:\n  {listed}{more}")


def _row(line: int, row: Row) -> _KneeRow:
    def number(name: str) -> float | None:
        cell = row.get(name, "")
        value = number_of(cell)
        if value is None and not is_missing(cell):
            raise ValueError(f"{name.lower()} is {cell!r}, and should be a number or empty")
        return value

    path, who = row["PATH"].replace("\\", "/"), row["PARTICIPANT_ID"]
    if not path or not who:
        raise ValueError("path or participant_id is empty")
    month = number("VISIT_MONTH") or 0.0
    if not month.is_integer() or month < 0:
        raise ValueError(f"visit_month is {month:g}, and should be a whole number of months")
    word = row.get("SIDE", "")
    side = side_of(word)
    if side is None and not is_missing(word) and word.casefold() not in _BOTH:
        raise ValueError(f"side is {word!r}, and should be L, R, both or empty")
    cell = row.get("KL_GRADE", "")
    grade = grade_of(cell)
    if grade is None and not is_missing(cell):
        raise ValueError(f"kl_grade is {cell!r}, and should be 0 to 4 or empty")
    if grade is not None and side is None:
        raise ValueError("kl_grade needs a side: give each knee a row of its own")
    across, down, square = number("MM_PER_PX_X"), number("MM_PER_PX_Y"), number("SPACING_MM")
    spacing = (down, across) if across and down else (square, square) if square else None
    inverted = yes_of(row.get("INVERTED", "")) is True
    both: Literal["both"] | None = "both" if word.casefold() in _BOTH else None
    return _KneeRow(
        line,
        ReleaseImage(str(PurePosixPath(path)), who, int(month), side or both, spacing, inverted),
        side,
        None if grade is None else Reading(grade),
        Background(
            tkr=yes_of(row.get("TKR", "")),
            tkr_month=number("TKR_MONTH"),
            site=row.get("SITE") or None,
            age=number("AGE"),
            sex=sex_of(row.get("SEX", "")),
            bmi=number("BMI"),
            womac=number("WOMAC"),
            injury=yes_of(row.get("INJURY", "")),
            surgery=yes_of(row.get("SURGERY", "")),
            split=row.get("SPLIT") or None,
        ),
    )


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
