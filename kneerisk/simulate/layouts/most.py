"""MOST's layout: one wide tab-delimited table of grades; a tree of images that is a guess.

::

    MOSTV01235XRAY.txt    MOSTID, V{0,1,2,3,5}X{R,L}KL; visits at 0, 15, 30, 60, 84 months
    MOSTV0ENROLL.txt      MOSTID, AGE, SEX, SITE, V0BMI, V0WOTOT{R,L}, V0LA{R,L} (injury), V0SURG{R,L}
    MOSTOUTCOMES.txt      MOSTID, V99E{R,L}KRINDEX: the visit by which the knee was replaced
    images/MB00001/V0/PA10/MB00001V0PA10.dcm    and, now and then, PA05 and LAT beside PA10

A cell of the grades holds 0 to 4, or 8 (unreadable), 9 (replaced), P, S, X or Z (no film, not read, ...), or
nothing.  The true image tree of MOST's release is not known here: the one above holds a folder for the
participant, for the visit and for the view, the beam's angle in its name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kneerisk.simulate.layouts.layout import Shot
from kneerisk.simulate.participants import Participant, Visit
from kneerisk.simulate.text_tables import TextTables

MONTHS = {0: 0, 15: 1, 30: 2, 60: 3, 84: 5}
"""Months → the visit's number in names of columns and folders."""

_GRADES, _ENROLL, _OUTCOMES = "MOSTV01235XRAY.txt", "MOSTV0ENROLL.txt", "MOSTOUTCOMES.txt"
_REPLACED = "9"
_UNREAD = ("8", "P", "S", "X", "Z", "")


class MostLayout:
    """Three tables; images by participant, visit and view."""

    def __init__(self, directory: Path, months: tuple[int, ...]) -> None:
        self._planned = months
        self._tables = TextTables(directory)

    def start(self) -> None:
        """Begin the three tables."""
        grades = [f"V{number}X{side}KL" for number in MONTHS.values() for side in "RL"]
        self._tables.start(_GRADES, ("MOSTID", *grades), "\t")
        enrolled = (
            "AGE",
            "SEX",
            "SITE",
            "V0BMI",
            "V0WOTOTR",
            "V0WOTOTL",
            "V0LAR",
            "V0LAL",
            "V0SURGR",
            "V0SURGL",
        )
        self._tables.start(_ENROLL, ("MOSTID", *enrolled), "\t")
        self._tables.start(_OUTCOMES, ("MOSTID", "V99ERKRINDEX", "V99ELKRINDEX"), "\t")

    def identity(self, person: Participant) -> str:
        """MB00001 and so on; every other participant of the other clinic, MI00002."""
        return f"M{'BI'[person.number % 2 == 0]}{person.number:05d}"

    def shots(self, person: Participant, visit: Visit) -> list[Shot]:
        """PA10, and for one visit in six a lateral view."""
        who, number = self.identity(person), MONTHS[visit.month]
        date = f"{2003 + visit.month // 12}{visit.month % 12 + 1:02d}10"
        folder = f"images/{who}/V{number}"
        shots = [Shot(f"{folder}/PA10/{who}V{number}PA10.dcm", date)]
        if (person.number + number) % 6 == 0:
            shots.append(Shot(f"{folder}/LAT/{who}V{number}LAT.dcm", date, "Lateral Knee"))
        return shots

    def add(self, person: Participant) -> None:
        """One row in each table."""
        who = self.identity(person)
        rng = np.random.default_rng([person.number, 71])
        at = {visit.month: visit for visit in person.visits}
        cells = [_cell(at.get(month), side, rng) for month in MONTHS for side in (0, 1)]
        self._tables.add(_GRADES, (who, *cells))
        right, left = person.visits[0].knees
        histories = person.knees
        self._tables.add(
            _ENROLL,
            (
                who,
                f"{person.age:.0f}",
                2 if person.female else 1,
                1 + (person.number % 2 == 0),
                f"{person.bmi:.1f}",
                f"{right.womac:.0f}",
                f"{left.womac:.0f}",
                *(int(history.injury) for history in histories),
                *(int(history.surgery) for history in histories),
            ),
        )
        self._tables.add(_OUTCOMES, (who, *(self._replaced_by(h.replaced_month) for h in histories)))

    def finish(self) -> None:
        """Put the tables into place."""
        self._tables.finish()

    def close(self) -> None:
        """Drop tables that are not finished."""
        self._tables.close()

    def _replaced_by(self, month: int | None) -> int:
        later = [m for m in self._planned if month is not None and m >= month]
        return MONTHS[later[0]] if later else 0


def _cell(visit: Visit | None, side: int, rng: np.random.Generator) -> str:
    """A knee's grade at a visit, or the code for there being none."""
    code = _UNREAD[int(rng.integers(len(_UNREAD)))]
    if visit is None or not visit.has_row:
        return ""
    knee = visit.knees[side]
    return _REPLACED if knee.replaced else code if knee.missing else str(knee.read)
