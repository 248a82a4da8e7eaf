"""A stack's own equations of further outcomes come of its cohort's later visits."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kneerisk_train.data.equations import load_equations, seen_by_equations
from kneerisk_train.data.knees import UNGRADED, Knees
from kneerisk_train.data.visits import fitted, later_grades
from kneerisk_train.publish import outcomes
from kneerisk_train.publish.outcomes import outcomes_of

from kneerisk.study.outcomes import Outcome
from kneerisk.study.statistics.discrimination import auc


def knees(rows: list[tuple[str, str, int, int]]) -> Knees:
    """(participant, side, month, grade) each."""
    people, sides, months, grades = zip(*rows, strict=True)
    n = len(rows)
    return Knees(
        np.array(people), np.array(sides), np.array(months, np.int32), np.zeros((n, 8, 8), np.uint8),
        np.array(grades), np.full((n, 16, 2), np.nan, np.float32), np.full((n, 2), np.nan, np.float32),
    )  # fmt: skip


def cohort(participants: int, visits: tuple[int, ...] = (0, 12), seed: int = 0) -> tuple[Knees, Any]:
    """Simulated knees of both sides whose risk of a rise the image tells; and the image's posterior."""
    rng = np.random.default_rng(seed)
    rows, posterior = [], []
    for number in range(participants):
        for side in "LR":
            grade, sure = int(rng.integers(0, 4)), rng.uniform(0.3, 0.9)
            rises = rng.random() < 1.2 * (1 - sure) * 0.5
            for month in visits:
                rows.append((f"P{number}", side, month, grade + int(rises and month >= 12)))
                p = np.full(5, 0.0)
                p[grade], p[grade + 1] = sure, 1 - sure
                posterior.append(p)
    return knees(rows), np.array(posterior)


def test_a_later_grade_is_the_same_knee_s_nearest_reading_within_three_months() -> None:
    found = later_grades(
        knees(
            [
                ("A", "L", 0, 1), ("A", "L", 11, 2), ("A", "L", 15, 3), ("A", "R", 12, 4), ("B", "L", 12, 4),
                ("A", "L", 24, UNGRADED), ("A", "L", 50, 4),
            ]
        )
    )  # fmt: skip
    assert found[12][0] == 2
    assert found[48][0] == 4
    assert np.isnan(found[24][0]) and np.isnan(found[36][0])
    assert found[12][1] != found[12][1]  # nothing was read at 23 months
    assert found[36][2] == 4


def test_equations_are_fitted_to_the_visits_and_tell_who_rises() -> None:
    seen, posterior = cohort(800)
    found = fitted(seen, posterior, population="simulated", posteriors="own-0.1.0")
    assert found is not None and (found.population, found.posteriors) == ("simulated", "own-0.1.0")
    assert {equation.months for equation in found.equations} == {12}
    rise = [e for e in found.equations if e.outcome is Outcome.ANY_RISE]
    assert {e.kind for e in rise} == {"image", "image+other", "grade", "grade+other"}
    # Knees at their second visit have no reading after it, so that each knee counts once.
    assert {e.knees for e in rise if e.kind == "grade"} == {1600}
    start = seen.month == 0
    later = later_grades(seen)[12][start] > seen.grade[start]
    risk, _ = found.risk(Outcome.ANY_RISE, 12, seen_by_equations(seen, posterior))
    assert auc(risk[start], later) > 0.6
    assert risk[start].mean() == pytest.approx(later.mean(), abs=0.02)


def test_without_later_readings_there_are_none() -> None:
    seen, posterior = cohort(300, visits=(0,))
    assert fitted(seen, posterior, population="p", posteriors="s") is None


@pytest.mark.parametrize(
    ("visits", "real", "whose"),
    [((0, 12), False, "own-0.1.0"), ((0, 12), True, "own-0.1.0"), ((0,), False, "given"), ((0,), True, None)],
)
def test_what_is_shipped(
    visits: tuple[int, ...],
    real: bool,
    whose: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen, posterior = cohort(300, visits=visits)
    monkeypatch.setattr(outcomes, "uses_visits", lambda session: real)
    session: Any = SimpleNamespace(
        data=SimpleNamespace(name="simulated", knees={"val": seen}), equations=None
    )
    stack: Any = SimpleNamespace(name="own-0.1.0", folder=Path())
    with caplog.at_level(logging.WARNING):
        found = outcomes_of(stack, SimpleNamespace(p_now=posterior), session)  # type: ignore[arg-type]
    given = load_equations()
    assert (found and found["posteriors"]) == (given.posteriors if whose == "given" else whose)
    assert (given.posteriors in caplog.text) == (whose == "given")
    assert ("no equations" in caplog.text) == (whose is None)
