"""Several readings of one knee and visit → one, with every row's fate counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import KneeKey, Reading

CONTRADICTS = "contradicts another row of its reading project: no grade is taken"
_PROJECTS = ("15", "37", "42")


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """One row of a semi-quantitative table."""

    section: str
    """The ledger's section, one a table."""
    line: int
    project: str
    version: float
    grade: int | None
    code: str | None
    """What stands in the grade's place where it is none."""
    barcode: str | None = None
    """Of the radiograph that was read, 8 digits."""


def choose(key: KneeKey, rows: Iterable[ReadingRow], ledger: Ledger) -> Reading:
    """One reading: with a grade before without, project 15 before 37 before 42, the latest version first.

    Rows of one project and version that repeat each other count once; where they disagree, no grade is taken:
    there is no telling which is right.
    """
    ordered = sorted(rows, key=_preference)
    best = ordered[0]
    peers = [row for row in ordered if (row.project, row.version) == (best.project, best.version)]
    torn = len({row.grade for row in peers if row.grade is not None}) > 1
    for row in ordered:
        name = f"line {row.line}: {key.participant_id} {key.side}, month {key.visit_month}"
        ledger.add(row.section, _fate(row, best, torn), name)
    return Reading(None, "readings disagree") if torn else Reading(best.grade, best.code)


def _fate(row: ReadingRow, best: ReadingRow, torn: bool) -> str:
    if row.project != best.project:
        return f"left out: reading project {best.project} goes before {row.project}"
    if row.version != best.version:
        return "left out: another version of the same reading goes before"
    if torn and row.grade is not None:
        return f"left out: {CONTRADICTS}"
    if row is not best:
        return "left out: repeats another row"
    return "used" if row.grade is not None else f"used, with no grade: {row.code or 'empty'}"


def _preference(row: ReadingRow) -> tuple[bool, int, str, float, int]:
    project = _PROJECTS.index(row.project) if row.project in _PROJECTS else len(_PROJECTS)
    return row.grade is None, project, row.project, -row.version, row.line
