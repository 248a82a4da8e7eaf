"""A simulated participant: two knees, what makes them progress, and what is known of them at every visit.

Hidden and known. Each knee has a *liability*, standard normal, that speeds its progression
(``progression.SPREAD``), made of the participant's part and the knee's own; the participant's two knees
have liabilities and baseline severities that correlate by ``LIKENESS``. Covariates echo what is hidden,
each with noise of its own: age, sex and BMI the participant's part, injury, surgery and WOMAC the knee's
liability, age, BMI and WOMAC its severity too. They carry part of the signal; severity, which the
radiograph shows, most.

Late disease ends in replacement now and then (``REPLACED_A_YEAR``), and participants are lost from visit to
visit; sicker ones no more than others, so what remains is no biased sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from kneerisk.records import Side
from kneerisk.simulate.progression import (
    RISING,
    advance,
    chance_to_pass,
    fitted,
    place_within,
    severity_of,
    wear_of,
)
from kneerisk.simulate.rates import BASELINE_SHARES
from kneerisk.simulate.reader import Reader
from kneerisk.simulate.shape import grade_of

LIKENESS = 0.6
"""Correlation of the two knees of a participant, of liability and of baseline severity alike."""
REPLACED_A_YEAR = (0.0, 0.0, 0.001, 0.01, 0.08)
"""Share of knees of true grades 0 to 4 that are replaced in a year."""
UNREAD = 0.03
"""Share of knees at a visit whose grade is missing."""
ROWS_WITHOUT_IMAGE = 0.015
IMAGES_WITHOUT_ROW = 0.01
SITES = "ABCDE"

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class KneeVisit:
    """One knee at one visit: what is hidden, and what is read."""

    side: Side
    severity: float
    grade: int
    """True grade, 0 to 4."""
    grade_12m: int
    """True grade twelve months after this visit, whoever comes to see it."""
    risk_12m: float
    """P(true grade higher twelve months after this visit), exactly, given all that is hidden; 0 at KL 4."""
    risk_12m_seen: float
    """The same of a knee of average liability: all that severity, and so the radiograph, tells of it."""
    read: int
    """The main reader's grade."""
    read_12m: int
    read_again: int
    """Another project's reader's grade."""
    missing: bool
    """The knee was not read at this visit."""
    replaced: bool
    womac: float
    """WOMAC total, 0 to 96."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit that was planned."""

    month: int
    attended: bool
    has_image: bool
    """Oddity: a visit whose radiograph is not in the release has none, though it stands in the tables."""
    has_row: bool
    """Oddity: a radiograph whose knees stand in no table."""
    knees: tuple[KneeVisit, KneeVisit]
    """Right, left."""


@dataclass(frozen=True, slots=True)
class KneeHistory:
    """What holds of a knee at all visits."""

    side: Side
    liability: float
    injury: bool
    surgery: bool
    replaced_month: int | None


@dataclass(frozen=True, slots=True)
class Participant:
    """One simulated participant with all visits that were planned."""

    number: int
    """From 1."""
    site: str
    age: float
    """Years at baseline."""
    female: bool
    bmi: float
    knees: tuple[KneeHistory, KneeHistory]
    """Right, left."""
    visits: tuple[Visit, ...]


def draw_participant(seed: int, number: int, months: tuple[int, ...], dropout: float) -> Participant:
    """Draw participant ``number`` of the cohort of ``seed``.

    Args:
        seed: the cohort's.
        number: from 1; a participant does not depend on how many there are.
        months: the visits' months since baseline, ascending, the first 0.
        dropout: share of participants lost in a year.
    """
    rng = np.random.default_rng([seed, number, 11])
    shared, shared_severity = rng.normal(size=2)
    age = float(np.clip(61 + 4 * shared + 3 * shared_severity + 7.5 * rng.normal(), 45, 79))
    female = bool(0.25 * shared + rng.normal() > -0.2)
    bmi = float(np.clip(28.5 + 2 * shared + 1 * shared_severity + 4 * rng.normal(), 17, 48))
    drawn = [_draw_knee(side, shared, shared_severity, months, rng) for side in ("R", "L")]
    (right, right_visits), (left, left_visits) = drawn
    lost_after = float(rng.exponential(1 / dropout)) * 12 if dropout > 0 else float("inf")
    visits = []
    for month, on_right, on_left in zip(months, right_visits, left_visits, strict=True):
        no_image, no_row, skipped = rng.random(3) < (ROWS_WITHOUT_IMAGE, IMAGES_WITHOUT_ROW, dropout / 3)
        attended = month == 0 or bool(month <= lost_after and not skipped)
        visits.append(
            Visit(month, attended, attended and not no_image, attended and not no_row, (on_right, on_left))
        )
    site = SITES[int(rng.integers(len(SITES)))]
    return Participant(number, site, age, female, bmi, (right, left), tuple(visits))


def _draw_knee(
    side: Literal["R", "L"],
    shared: float,
    shared_severity: float,
    months: tuple[int, ...],
    rng: np.random.Generator,
) -> tuple[KneeHistory, list[KneeVisit]]:
    mine, other = LIKENESS**0.5, (1 - LIKENESS) ** 0.5
    liability = float(mine * shared + other * rng.normal())
    deviate = float(mine * shared_severity + other * rng.normal())
    baseline = _baseline_severity(_NORMAL.cdf(deviate))
    injury = bool(0.5 * liability + rng.normal() > 0.75)
    surgery = bool(0.4 * liability + 0.6 * injury + rng.normal() > 1.5)
    main, second = Reader.draw(rng), Reader.draw(rng)
    wear, replaced_month = _follow(baseline, liability, months, rng)
    model, first = fitted(), grade_of(baseline)
    visits = []
    for month in months:
        severity = float(severity_of(wear[month]))
        grade, later = grade_of(severity), grade_of(float(severity_of(wear[month + 12])))
        risk = seen = 0.0
        if grade < RISING:
            expected = model.expected_jumps(first, [liability, 0.0], month, month + 12)
            risk, seen = map(float, chance_to_pass(wear_of(grade + 1) - wear[month], expected))
        pain = 4 + 5 * severity + 4 * liability + 8 * float(rng.normal())
        visits.append(
            KneeVisit(
                side=side,
                severity=severity,
                grade=grade,
                grade_12m=later,
                risk_12m=risk,
                risk_12m_seen=seen,
                read=main.read(grade),
                read_12m=main.read(later),
                read_again=second.read(grade),
                missing=bool(rng.random() < UNREAD),
                replaced=replaced_month is not None and month >= replaced_month,
                womac=float(np.clip(pain, 0, 96)),
            )
        )
    return KneeHistory(side, liability, injury, surgery, replaced_month), visits


def _baseline_severity(quantile: float) -> float:
    """A quantile over all knees → severity, its grade by ``BASELINE_SHARES``."""
    below = 0.0
    for grade, share in enumerate(BASELINE_SHARES):
        if quantile < below + share or grade == RISING:
            inside = min((quantile - below) / share, 1.0)
            return grade + float(place_within(inside))
        below += share
    raise AssertionError("the last grade takes what is left")


def _follow(
    baseline: float, liability: float, months: tuple[int, ...], rng: np.random.Generator
) -> tuple[dict[int, float], int | None]:
    """Wear at every visit and twelve months after it, and the month of replacement, if one comes.

    Wear goes on after a replacement as if there had been none, so that every visit has its truth.
    """
    model, first = fitted(), grade_of(baseline)
    wear, replaced = {0: float(wear_of(baseline))}, None
    before = 0
    for month in sorted({*months, *(m + 12 for m in months)} - {0}):
        grade = grade_of(float(severity_of(wear[before])))
        wear[month] = advance(wear[before], float(model.expected_jumps(first, liability, before, month)), rng)
        years = (month - before) / 12
        if rng.random() < 1 - (1 - REPLACED_A_YEAR[grade]) ** years and replaced is None:
            replaced = month
        before = month
    return wear, replaced
