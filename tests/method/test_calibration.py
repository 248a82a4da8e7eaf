from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneerisk.errors import StackError
from kneerisk.method.calibration import Calibration, Logistic, fit, rise_rates
from kneerisk.method.risk import evidence_above, risk_of_rise

RATES = (0.0371, 0.0949, 0.0741, 0.0756, 0.0)


def graded_knees(seed: int, noise: float = 1.0, n: int = 800) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Posteriors that a fair classifier might give: they fall off with distance from the reader's grade."""
    rng = np.random.default_rng(seed)
    kl = rng.choice(5, n, p=[0.4, 0.18, 0.25, 0.13, 0.04])
    kl[:5] = range(5)

    def posterior(shift: float) -> np.ndarray:
        seen = kl + rng.normal(shift, 0.6 * noise, n)
        logits = -1.5 * (np.arange(5) - seen[:, None]) ** 2 + rng.normal(0, 0.4, (n, 5))
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return p / p.sum(axis=1, keepdims=True)

    return posterior(0.0), posterior(0.05), kl


def fitted(seed: int = 0) -> Calibration:
    return fit(*graded_knees(seed), RATES, population="simulated knees")


@pytest.mark.parametrize("seed", range(4))
def test_mean_risk_of_each_grade_is_its_rate_on_the_fitting_knees(seed: int) -> None:
    now, later, kl = graded_knees(seed)
    calibration = fit(now, later, kl, RATES, population="simulated knees")
    image = calibration.risk(risk_of_rise(now, later), now)
    given = calibration.risk_given_grade(evidence_above(now, later, kl), kl)
    for grade in range(4):
        assert image[now.argmax(axis=1) == grade].mean() == pytest.approx(RATES[grade], abs=1e-6)
        assert given[kl == grade].mean() == pytest.approx(RATES[grade], abs=1e-6)
    assert (given[kl == 4] == 0).all()
    assert image[now.argmax(axis=1) == 4].mean() < 0.04
    reached = calibration.fitted_on["mean_by_reader_grade"]
    assert reached == [pytest.approx(image[kl == grade].mean(), abs=1e-6) for grade in range(5)]


def test_flat_posteriors_are_sharpened_until_every_rate_is_met() -> None:
    now, later, kl = (array[:] for array in graded_knees(3))
    now = now**0.3 / (now**0.3).sum(axis=1, keepdims=True)
    calibration = fit(now, later, kl, RATES, population="simulated knees")
    assert calibration.sharpness > 1
    image = calibration.risk(risk_of_rise(now, later), now)
    for grade in range(4):
        assert image[now.argmax(axis=1) == grade].mean() == pytest.approx(RATES[grade], abs=1e-6)


def test_a_grade_that_the_image_never_puts_first_is_fitted_by_its_weight() -> None:
    now, later, kl = graded_knees(5)
    now[:, 1] *= 0.3
    now /= now.sum(axis=1, keepdims=True)
    now[now.argmax(axis=1) == 1] = [0.5, 0.3, 0.2, 0, 0]
    calibration = fit(now, later, kl, RATES, population="simulated knees")
    raw = risk_of_rise(now, later)
    if_one = calibration.image.by_grade(raw)[:, 1]
    assert np.average(if_one, weights=now[:, 1]) == pytest.approx(RATES[1], abs=1e-6)
    image = calibration.risk(raw, now)
    assert image[now.argmax(axis=1) == 0].mean() == pytest.approx(RATES[0], abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=5, max_size=5), st.integers(0, 4))
def test_risk_rises_with_the_raw_risk_and_stays_a_probability(
    a: float, b: float, weights: list[float], grade: int
) -> None:
    calibration = CALIBRATION
    p = np.asarray(weights) + 1e-3
    p /= p.sum()
    low, high = calibration.risk(min(a, b), p), calibration.risk(max(a, b), p)
    assert 0 <= low <= high <= 1
    low, high = (calibration.risk_given_grade(e, grade) for e in (min(a, b), max(a, b)))
    assert 0 <= low <= high <= 1


CALIBRATION = fitted()


def test_a_knee_surely_at_the_ceiling_has_no_risk() -> None:
    assert CALIBRATION.risk(0.9, np.eye(5)[4]) == 0
    assert CALIBRATION.risk_given_grade(0.9, 4) == 0


def test_the_spread_within_a_grade_is_that_of_the_stated_auc() -> None:
    now, later, kl = graded_knees(1)
    calibration = fit(now, later, kl, RATES, population="x", auc_image=0.60, auc_given_grade=0.68)
    evidence = evidence_above(now, later, kl)
    clipped = np.clip(evidence, 1e-6, 1 - 1e-6)
    logits = calibration.given_grade.slope * np.log(clipped / (1 - clipped))
    spread = np.sqrt(np.mean([logits[kl == g].var() for g in range(4)]))
    assert spread == pytest.approx(2**0.5 * 0.4677, rel=1e-3)  # Phi(0.4677) = 0.68


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(CALIBRATION.to_json(), "utf-8")
    assert Calibration.load(path) == CALIBRATION


@pytest.mark.parametrize(
    ("change", "words"),
    [({"format": 99}, "format 99"), ({"image": {"slope": -1}}, "damaged"), ({"rates": None}, "damaged")],
)
def test_a_bad_file_names_its_fix(change: dict[str, object], words: str) -> None:
    with pytest.raises(StackError, match=words):
        Calibration.from_mapping({**json.loads(CALIBRATION.to_json()), **change})


def test_fit_refuses_what_cannot_be_fitted() -> None:
    now, later, kl = graded_knees(0)
    with pytest.raises(ValueError, match="KL 4 cannot rise"):
        fit(now, later, kl, (0.1, 0.1, 0.1, 0.1, 0.1), population="x")
    with pytest.raises(ValueError, match=r"no knee of KL \[2\]"):
        fit(now[kl != 2], later[kl != 2], kl[kl != 2], RATES, population="x")
    with pytest.raises(ValueError, match="lies between"):
        fit(now, later, kl, RATES, population="x", auc_image=0.4)
    with pytest.raises(ValueError, match="slope"):
        Logistic(0.0, (0, 0, 0, 0), 0.6)


def test_rise_rates_sum_what_lies_above_the_diagonal() -> None:
    moves = np.eye(5)
    moves[0] = [0.9, 0.06, 0.03, 0.01, 0]
    moves[1] = [0, 0.9, 0.1, 0, 0]
    moves[3] = [0, 0, 0, 0.8, 0.2]
    assert rise_rates(moves) == pytest.approx([0.1, 0.1, 0, 0.2, 0])
