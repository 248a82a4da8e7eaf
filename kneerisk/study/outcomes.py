"""The outcomes that a study can use: what each is, who can have it, and how it is seen in readers' grades."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

Grades = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MONTHS = (12, 24, 36, 48)
"""Horizons that the shipped equations know."""

_OA = 2
_SEVERE = 3
_HIGHEST = 4


class Outcome(StrEnum):
    """What is to happen to a knee between two visits, by its Kellgren-Lawrence grade."""

    ANY_RISE = "any-rise"
    NO_0TO1 = "no-0to1"
    TWO_GRADES = "two-grades"
    INCIDENT_OA = "incident-oa"
    SEVERE = "severe"

    @property
    def words(self) -> str:
        """As a sentence names it."""
        return _WORDS[self]

    @property
    def highest_at_risk(self) -> int:
        """The highest grade at the start from which a knee can still have the outcome."""
        return _HIGHEST_AT_RISK[self]


_WORDS = {
    Outcome.ANY_RISE: "any rise of the KL grade",
    Outcome.NO_0TO1: "any rise of the KL grade but 0 to 1",
    Outcome.TWO_GRADES: "a rise by two KL grades or more",
    Outcome.INCIDENT_OA: "incident radiographic OA (KL below 2 to 2 or more)",
    Outcome.SEVERE: "to KL 3 or more",
}
_HIGHEST_AT_RISK = {
    Outcome.ANY_RISE: _HIGHEST - 1,
    Outcome.NO_0TO1: _HIGHEST - 1,
    Outcome.TWO_GRADES: _HIGHEST - 2,
    Outcome.INCIDENT_OA: _OA - 1,
    Outcome.SEVERE: _SEVERE - 1,
}


def column_of(outcome: Outcome, months: int) -> str:
    """The column that ``derive`` writes: ``risk_incident_oa_24m``."""
    return f"risk_{outcome.value.replace('-', '_')}_{months}m"


def at_risk(outcome: Outcome, grade: npt.ArrayLike) -> Flags:
    """Which knees can have the outcome, by the grade at the start [...]; False where that is NaN."""
    start = np.asarray(grade, dtype=np.float64)
    return np.asarray(start <= outcome.highest_at_risk)


def observed(outcome: Outcome, grade: npt.ArrayLike, later: npt.ArrayLike) -> Grades:
    """Whether the outcome is seen in two readings of the same knees.

    A knee counts by its grade at the later visit, whatever it was in between. A knee read lower later has no
    event.

    Args:
        outcome: which.
        grade: [...] grade at the start, 0..4; NaN where it was not read.
        later: [...] grade at the end of the horizon; NaN where it was not read.

    Returns:
        float64 [...]: 1 event, 0 none, NaN where a reading is missing or the knee cannot have the outcome.
    """
    start, end = np.asarray(grade, dtype=np.float64), np.asarray(later, dtype=np.float64)
    rise = end - start
    if outcome is Outcome.ANY_RISE:
        event = rise > 0
    elif outcome is Outcome.NO_0TO1:
        event = (rise > 0) & ~((start == 0) & (end == 1))
    elif outcome is Outcome.TWO_GRADES:
        event = rise >= 2
    else:
        event = end >= (_OA if outcome is Outcome.INCIDENT_OA else _SEVERE)
    known = at_risk(outcome, start) & ~np.isnan(end)
    return np.where(known, event.astype(np.float64), np.nan)
