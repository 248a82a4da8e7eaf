"""Participants' tables → what is known of a knee at a visit: values kept by participant and visit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kneerisk.radiograph.sources.tables import Row
from kneerisk.releases.cells import ReleaseTable, is_missing, number_of, sex_of, yes_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import Background

T = TypeVar("T")

DAYS_A_MONTH = 365.25 / 12


class Cells:
    """Cells of interest by (participant, field, visit month); the first that says something is kept."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], str] = {}

    def put(self, participant: str, field: str, month: int, cell: str) -> None:
        """Keep a cell unless it is a missing code."""
        if not is_missing(cell):
            self._cells.setdefault((participant, field, month), cell)

    def at(self, participant: str, field: str, month: int, read: Callable[[str], T | None]) -> T | None:
        """The field's value at one visit."""
        cell = self._cells.get((participant, field, month))
        return None if cell is None else read(cell)

    def ever(self, participant: str, field: str, month: int, months: tuple[int, ...]) -> bool | None:
        """Whether a yes was given at this visit or an earlier one; ``None`` where nothing was said."""
        told = [self.at(participant, field, m, yes_of) for m in months if m <= month]
        return None if all(t is None for t in told) else any(told)


def read_participants(path: Path, participant: str, ledger: Ledger, keep: Callable[[str, Row], None]) -> None:
    """Give each row of a table with one row a participant to ``keep``; a second row of one is left out.

    Raises:
        UsageError: the table has no column ``participant``.
    """
    section = f"rows of {path.name}"
    seen: set[str] = set()
    for line, row in ReleaseTable(path, (participant,)):
        ledger.expect(section)
        who = row[participant]
        if is_missing(who) or who in seen:
            why = "no participant" if is_missing(who) else "a second row of one participant"
            ledger.add(section, f"left out: {why}", f"line {line}")
            continue
        seen.add(who)
        ledger.add(section, "used")
        keep(who, row)


def background(
    cells: Cells, participant: str, month: int, side: str, months: tuple[int, ...], tkr_month: float | None
) -> Background:
    """Everything the cells say; age without a row of its visit is the baseline's and the time since.

    The fields of ``cells`` are age, sex, site, bmi, and by side (``womac R``) womac, injury, surgery.
    ``tkr_month`` is when the knee was replaced; infinite where it is known that it was not.
    """
    age = cells.at(participant, "age", month, number_of)
    if age is None and (first := cells.at(participant, "age", 0, number_of)) is not None:
        age = first + month / 12
    replaced = tkr_month is not None and tkr_month != float("inf")
    return Background(
        tkr=None if tkr_month is None else tkr_month <= month,
        tkr_month=tkr_month if replaced else None,
        site=cells.at(participant, "site", 0, str),
        age=age,
        sex=cells.at(participant, "sex", 0, sex_of),
        bmi=cells.at(participant, "bmi", month, number_of),
        womac=cells.at(participant, f"womac {side}", month, number_of),
        injury=cells.ever(participant, f"injury {side}", month, months),
        surgery=cells.ever(participant, f"surgery {side}", month, months),
    )
