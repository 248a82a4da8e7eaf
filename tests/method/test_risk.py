from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kneerisk.method.risk import above_each_grade, evidence_above, risk_of_rise


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


@given(posteriors(), posteriors(), st.integers(0, 4))
def test_evidence_is_the_mean_of_both_posteriors_above_the_grade(
    now: np.ndarray, later: np.ndarray, grade: int
) -> None:
    expected = (now[grade + 1 :].sum() + later[grade + 1 :].sum()) / 2
    assert evidence_above(now, later, grade) == pytest.approx(expected, abs=1e-12)


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
