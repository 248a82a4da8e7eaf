from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from kneerisk.errors import UsageError
from kneerisk.study.enrichment.sample_size import Trial, two_proportions


def test_equals_the_examples_of_r() -> None:
    """R's documentation of power.prop.test: n = 76.7 for 90 % power, power = 0.740 with 50 a group."""
    assert round(float(two_proportions(0.5, 0.75, power=0.9)), 1) == 76.7
    assert float(two_proportions(0.5, 0.75, power=0.740)) == pytest.approx(50, abs=0.05)


def test_the_power_is_what_was_asked_for() -> None:
    """A trial of that size, drawn many times, finds the difference as often as its power says."""
    rng = np.random.default_rng(7)
    p, q, power = 0.14, 0.09, 0.8
    n = int(np.ceil(two_proportions(p, q, power=power)))
    a, b = rng.binomial(n, p, 20_000) / n, rng.binomial(n, q, 20_000) / n
    pooled = (a + b) / 2
    z = (a - b) / np.sqrt(2 * pooled * (1 - pooled) / n)
    found = float((np.abs(z) > NormalDist().inv_cdf(0.975)).mean())
    assert found == pytest.approx(power, abs=0.012)


def test_order_does_not_matter_and_no_difference_needs_infinitely_many() -> None:
    assert two_proportions(0.1, 0.2) == two_proportions(0.2, 0.1)
    assert np.isinf(two_proportions(0.2, 0.2))
    assert np.isinf(Trial().per_arm(0.0))


def test_a_treatment_lowers_the_rate_and_the_lost_are_enrolled_too() -> None:
    trial = Trial(effect=0.5, power=0.9, dropout=0.2)
    assert trial.per_arm(0.2) == two_proportions(0.2, 0.1, power=0.9)
    arm = np.ceil(two_proportions(0.2, 0.1, power=0.9))  # 266
    assert trial.enrolled(0.2) == 2 * np.ceil(arm / 0.8)
    assert Trial(effect=0.5, power=0.9).enrolled(0.2) == 2 * arm


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"effect": 0.0}, "--effect lies between 0 and 1"),
        ({"effect": 1.0}, "--effect"),
        ({"power": 1.0}, "--power"),
        ({"alpha": 0.0}, "--alpha"),
        ({"power": 0.02, "alpha": 0.05}, "what chance alone gives"),
        ({"dropout": 1.0}, "--dropout"),
        ({"cost_screen": -1.0, "cost_enrolled": 1.0}, "--cost-screen must be 0 or more"),
        ({"cost_enrolled": 1.0}, "give --cost-screen and --cost-enrolled"),
        ({"effect": float("nan")}, "--effect"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(settings: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Trial(**settings)
