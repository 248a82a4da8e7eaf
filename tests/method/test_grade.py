"""The grade that stands for a posterior."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneerisk.method.grade import median_grade


@pytest.mark.parametrize(
    ("posterior", "grade"),
    [
        ((1, 0, 0, 0, 0), 0),
        ((0, 0, 0, 0, 1), 4),
        ((0.45, 0.15, 0.4, 0, 0), 1),  # between 0 and 2, though 0 is the most probable
        ((0.5, 0.5, 0, 0, 0), 0),
        ((0.1, 0.1, 0.1, 0.3, 0.4), 3),
    ],
)
def test_half_of_the_chance_lies_at_or_below_the_grade(posterior: tuple[float, ...], grade: int) -> None:
    assert median_grade(posterior) == grade


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5).filter(lambda p: sum(p) > 0.1))
def test_no_other_grade_is_nearer_to_the_true_one_in_expectation(weights: list[float]) -> None:
    posterior = np.array(weights) / sum(weights)
    distances = [posterior @ np.abs(np.arange(5) - grade) for grade in range(5)]
    assert distances[int(median_grade(posterior))] == pytest.approx(min(distances), abs=1e-12)


def test_many_knees_at_once() -> None:
    assert median_grade(np.eye(5)[[3, 0]]).tolist() == [3, 0]
