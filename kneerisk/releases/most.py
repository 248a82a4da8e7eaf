"""MOST's tables: grades in one wide table, enrolment, outcomes.

Layout (facts from public code that reads it)::

    MOSTV01235XRAY.txt       tab-delimited: MOSTID, V{0,1,2,3,5}X{L,R}KL; 8, 9, P, S, X, Z: no grade
    MOSTV0ENROLL.txt …       AGE, SEX, SITE, V0BMI, V0WOTOTR, V0LAR (injury), V0SURGR
    MOSTOUTCOMES.txt         V99ERKRINDEX: the visit by which the knee was replaced

Visits V0, V1, V2, V3, V5 lie at 0, 15, 30, 60, 84 months.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.tables import Row
from kneerisk.records import Side
from kneerisk.releases.backgrounds import Cells, background, read_participants
from kneerisk.releases.cells import ReleaseTable, grade_of, is_missing, number_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import Background, KneeKey, Reading

MONTHS = {"0": 0, "1": 15, "2": 30, "3": 60, "5": 84}

_GRADE = re.compile(r"V(\d)X([LR])KL$")
_ENROLL = re.compile(r"mostv(\d)enroll")
_READINGS = re.compile(r"mostv\d+xray")


def is_readings(stem: str) -> bool:
    """Whether a table's name, in small letters and without its ending, is one of grades."""
    return _READINGS.fullmatch(stem) is not None


def read_grades(path: Path, readings: dict[KneeKey, Reading], ledger: Ledger) -> None:
    """Add a table's grades to ``readings``; UsageError where it is not as distributed."""
    table = ReleaseTable(path, ("MOSTID",))
    columns: list[tuple[str, int, Side]] = []
    for name in table.columns:
        if (match := _GRADE.match(name)) is None:
            continue
        if match.group(1) not in MONTHS:
            raise UsageError(f"{path}: column {name} is of no visit that is known (V{', V'.join(MONTHS)})")
        columns.append((name, MONTHS[match.group(1)], "L" if match.group(2) == "L" else "R"))
    if not columns:
        raise UsageError(
            f"{path}: no column holds KL grades (V0XRKL, V0XLKL); is this the table as distributed?"
        )
    section = f"grades in {path.name}"
    for line, row in table:
        for name, month, side in columns:
            ledger.expect(section)
            _read_grade(row, name, KneeKey(row["MOSTID"], month, side), line, readings, ledger, section)


def _read_grade(
    row: Row,
    name: str,
    key: KneeKey,
    line: int,
    readings: dict[KneeKey, Reading],
    ledger: Ledger,
    section: str,
) -> None:
    cell, where = row[name], f"line {line}: {key.participant_id}, {name}"
    grade = grade_of(cell)
    new = Reading(grade, None if grade is not None else cell)
    before = readings.get(key)
    if is_missing(row["MOSTID"]) or is_missing(cell):
        outcome = "left out: empty" if is_missing(cell) else "left out: no participant"
    elif before is None:
        readings[key] = new
        outcome = "used" if grade is not None else f"used, with no grade: {cell}"
    elif before == new:
        outcome = "left out: repeats another row"
    else:
        readings[key] = Reading(None, "readings disagree")
        outcome = "left out: contradicts another row of the participant: no grade is taken"
    ledger.add(section, outcome, where)


class MostBackground:
    """Enrolment's tables and the outcomes'; :meth:`of` answers for any knee and visit."""

    def __init__(self, by_name: Mapping[str, Path], ledger: Ledger) -> None:
        self.tables: list[Path] = []
        self._cells = Cells()
        self._replaced: dict[tuple[str, str], float] = {}
        for stem, path in sorted(by_name.items()):
            match = _ENROLL.fullmatch(stem)
            if match is not None and match.group(1) in MONTHS:
                read_participants(path, "MOSTID", ledger, partial(self._clinic, match.group(1)))
                self.tables.append(path)
            elif stem == "mostoutcomes":
                read_participants(path, "MOSTID", ledger, self._outcome)
                self.tables.append(path)

    def of(self, key: KneeKey) -> Background:
        """What is known of a knee at a visit."""
        replaced = self._replaced.get((key.participant_id, key.side))
        months = tuple(MONTHS.values())
        return background(self._cells, key.participant_id, key.visit_month, key.side, months, replaced)

    def _clinic(self, visit: str, who: str, row: Row) -> None:
        fields = {
            "bmi": f"V{visit}BMI",
            **{f"womac {s}": f"V{visit}WOTOT{s}" for s in "RL"},
            **{f"injury {s}": f"V{visit}LA{s}" for s in "RL"},
            **{f"surgery {s}": f"V{visit}SURG{s}" for s in "RL"},
        }
        for field, column in fields.items():
            self._cells.put(who, field, MONTHS[visit], row.get(column, ""))
        for field, column in (("age", "AGE"), ("sex", "SEX"), ("site", "SITE")):
            if visit == "0" or field != "age":
                self._cells.put(who, field, 0, row.get(column, ""))

    def _outcome(self, who: str, row: Row) -> None:
        for side in "RL":
            visit = number_of(row.get(f"V99E{side}KRINDEX", ""))
            seen = None if visit is None else MONTHS.get(str(int(visit))) if visit > 0 else None
            self._replaced[who, side] = float("inf") if seen is None else float(seen)
