from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kneerisk.method.risk import above_each_grade, hazards_of, monotone_rise, risk_of_rise


@st.composite
def posteriors(draw: st.DrawFn) -> np.ndarray:
    weights = draw(arrays(np.float64, 5, elements=st.floats(0, 1)))
    weights[draw(st.integers(0, 4))] += 1e-3
    return weights / weights.sum()


@given(posteriors(), posteriors())
def test_the_sum_is_the_papers_double_sum(now: np.ndarray, later: np.ndarray) -> None:
    expected = sum(now[i] * later[j] for i in range(5) for j in range(i + 1, 5))
    risk = risk_of_rise(now, later)
    assert risk == pytest.approx(expected, abs=1e-12)
    assert 0 <= risk <= 1


@given(posteriors(), posteriors())
def test_the_monotone_join_counts_only_what_the_later_posterior_adds_above(
    now: np.ndarray, later: np.ndarray
) -> None:
    expected = sum(max(0.0, later[k + 1 :].sum() - now[k + 1 :].sum()) for k in range(4))
    assert monotone_rise(now, later) == pytest.approx(expected, abs=1e-12)
    assert monotone_rise(now, now) == 0


@given(posteriors(), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_where_knees_rise_by_one_grade_the_monotone_join_is_the_chance_of_a_rise(
    now: np.ndarray, chances: list[float]
) -> None:
    hazards = np.array([*chances, 0.0])
    moves = np.diag(1 - hazards) + np.diag(hazards[:4], k=1)
    assert hazards_of(moves) == pytest.approx(hazards)
    assert monotone_rise(now, now @ moves) == pytest.approx((now * hazards).sum(), abs=1e-12)


def test_a_hazard_is_all_that_lies_above_the_diagonal() -> None:
    moves = np.eye(5)
    moves[0] = [0.9, 0.06, 0.03, 0.01, 0]
    assert hazards_of(moves[None]) == pytest.approx(np.array([[0.1, 0, 0, 0, 0]]))


def test_two_flat_posteriors_give_two_fifths() -> None:
    assert risk_of_rise(np.full(5, 0.2), np.full(5, 0.2)) == pytest.approx(0.40)


def test_grade_four_cannot_rise() -> None:
    top = np.eye(5)[4]
    assert risk_of_rise(top, np.full(5, 0.2)) == 0
    assert above_each_grade(np.full(5, 0.2))[4] == 0


def test_certain_grades_give_certain_answers() -> None:
    grades = np.eye(5)
    risks = risk_of_rise(grades[:, None], grades[None, :])
    assert np.array_equal(risks, np.triu(np.ones((5, 5)), k=1))
