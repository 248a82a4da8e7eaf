from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from kneerisk.errors import StackError
from kneerisk.method.calibration import Calibration, Logistic, fit, rise_rates, spread_of_auc, spread_within
from kneerisk.method.grade import median_grade

RATES = (0.0371, 0.0949, 0.0741, 0.0756, 0.0)


def graded_knees(seed: int, n: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hazards and posteriors that fair classifiers might give: they fall off with distance from the grade."""
    rng = np.random.default_rng(seed)
    kl = rng.choice(5, n, p=[0.4, 0.18, 0.25, 0.13, 0.04])
    kl[:5] = range(5)
    seen = kl + rng.normal(0, 0.6, n)
    logits = -1.5 * (np.arange(5) - seen[:, None]) ** 2
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    hazards = 1 / (1 + np.exp(2.5 - rng.normal(0, 0.8, (n, 5)) - 0.3 * (seen - kl)[:, None]))
    hazards[:, 4] = 0
    return hazards, p / p.sum(axis=1, keepdims=True), kl


def fitted(seed: int = 0, spread: float = 0.5) -> Calibration:
    return fit(
        *graded_knees(seed),
        RATES,
        population="simulated knees",
        spread=spread,
        spread_of="a guess",
        novelty=np.linspace(0.5, 1.5, 800),
    )


@pytest.mark.parametrize("seed", range(4))
def test_mean_risk_of_each_grade_is_its_rate_on_the_fitting_knees(seed: int) -> None:
    hazards, _, kl = graded_knees(seed)
    given_grade = fitted(seed).given_grade(hazards, kl)
    for grade in range(4):
        assert given_grade[kl == grade].mean() == pytest.approx(RATES[grade], abs=1e-6)
    assert (given_grade[kl == 4] == 0).all()
    assert fitted(seed).fitted_on["mean_risk_given_grade"] == [pytest.approx(r, abs=1e-6) for r in RATES]


def test_the_risk_from_the_image_is_the_mean_of_the_grades_it_leaves_open() -> None:
    calibration = CALIBRATION
    hazards = np.array([0.05, 0.1, 0.2, 0.3, 0.0])
    each = [float(calibration.given_grade(hazards, grade)) for grade in range(5)]
    p = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    assert calibration.from_image(hazards, p) == pytest.approx(np.dot(p, each))
    for grade in range(5):
        assert calibration.from_image(hazards, np.eye(5)[grade]) == pytest.approx(each[grade])


CALIBRATION = fitted()


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=5, max_size=5), st.integers(0, 4))
def test_risk_rises_with_the_hazard_and_stays_a_probability(
    a: float, b: float, weights: list[float], grade: int
) -> None:
    p = np.asarray(weights) + 1e-3
    p /= p.sum()
    low, high = (CALIBRATION.from_image(np.full(5, h), p) for h in (min(a, b), max(a, b)))
    assert 0 <= low <= high <= 1
    low, high = (CALIBRATION.given_grade(np.full(5, h), grade) for h in (min(a, b), max(a, b)))
    assert 0 <= low <= high <= 1


def test_a_knee_surely_at_the_ceiling_has_no_risk() -> None:
    assert CALIBRATION.from_image(np.full(5, 0.9), np.eye(5)[4]) == 0
    assert CALIBRATION.given_grade(np.full(5, 0.9), 4) == 0


def test_the_spread_within_a_grade_is_the_stated_one() -> None:
    hazards, _, kl = graded_knees(1)
    given_grade = fitted(1, spread=0.7).given_grade(hazards, kl)
    logits = np.log(given_grade / (1 - given_grade), where=kl < 4, out=np.zeros_like(given_grade))
    assert spread_within([logits[kl == g] for g in range(4)]) == pytest.approx(0.7, rel=1e-3)
    assert norm.cdf(spread_of_auc(0.68) / 2**0.5) == pytest.approx(0.68)


def test_hazards_that_do_not_vary_are_not_blown_up() -> None:
    hazards, p, kl = graded_knees(0)
    flat = np.full_like(hazards, 0.07) + 1e-6 * hazards
    calibration = fit(flat, p, kl, RATES, population="x", spread=0.5, spread_of="a guess")
    assert calibration.given_grade(flat, kl)[kl == 1].std() < 1e-5


def test_it_keeps_what_its_knees_look_like() -> None:
    hazards, p, _ = graded_knees(0)
    usual = CALIBRATION.usual
    assert usual is not None
    assert usual.novelty == pytest.approx(1.0)
    assert CALIBRATION.novelty_threshold == pytest.approx(1.499, abs=1e-3)
    assert usual.grades == pytest.approx(np.bincount(median_grade(p)) / 800, abs=1e-3)
    assert usual.risk == pytest.approx(CALIBRATION.from_image(hazards, p).mean())


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(CALIBRATION.to_json(), "utf-8")
    assert Calibration.load(path) == CALIBRATION


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2"),
        ({"hazard": {"slope": -1}}, "damaged"),
        ({"rates": None}, "damaged"),
        ({"usual": {"novelty": 1}}, "damaged"),
    ],
)
def test_a_bad_file_names_its_fix(change: dict[str, object], words: str) -> None:
    with pytest.raises(StackError, match=words):
        Calibration.from_mapping({**json.loads(CALIBRATION.to_json()), **change})


def test_fit_refuses_what_cannot_be_fitted() -> None:
    hazards, p, kl = graded_knees(0)
    said = {"population": "x", "spread": 0.5, "spread_of": "a guess"}
    with pytest.raises(ValueError, match="KL 4 cannot rise"):
        fit(hazards, p, kl, (0.1, 0.1, 0.1, 0.1, 0.1), **said)
    with pytest.raises(ValueError, match=r"no knee of KL \[2\]"):
        fit(hazards[kl != 2], p[kl != 2], kl[kl != 2], RATES, **said)
    with pytest.raises(ValueError, match="spread"):
        fit(hazards, p, kl, RATES, **(said | {"spread": 0.0}))
    with pytest.raises(ValueError, match="lies between"):
        spread_of_auc(0.4)
    with pytest.raises(ValueError, match="slope"):
        Logistic(0.0, (0, 0, 0, 0), 0.5, "a guess")


def test_rise_rates_sum_what_lies_above_the_diagonal() -> None:
    moves = np.eye(5)
    moves[0] = [0.9, 0.06, 0.03, 0.01, 0]
    moves[1] = [0, 0.9, 0.1, 0, 0]
    moves[3] = [0, 0, 0, 0.8, 0.2]
    assert rise_rates(moves) == pytest.approx([0.1, 0.1, 0, 0.2, 0])
