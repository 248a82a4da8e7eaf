from __future__ import annotations

import numpy as np
import pytest

from kneerisk.errors import UsageError
from kneerisk.study.enrichment.selection import Rule, curve_thresholds

RISK = np.array([0.3, 0.1, 0.5, 0.2, 0.2, 0.4, 0.05, 0.15, 0.25, 0.35])


@pytest.mark.parametrize(
    ("rule", "threshold"),
    [
        (Rule("threshold", 0.33), 0.33),
        (Rule("top", 1), 0.5),
        (Rule("top", 3), 0.35),
        (Rule("top", 10), 0.05),
        (Rule("top", 6), 0.2),  # the sixth ties with the seventh
        (Rule("top-fraction", 0.3), 0.35),
        (Rule("top-fraction", 0.01), 0.5),
        (Rule("recruit", 2), 0.4),
        (Rule("recruit", 20, screen=100), 0.4),
    ],
)
def test_a_rule_becomes_a_threshold(rule: Rule, threshold: float) -> None:
    assert rule.threshold(RISK) == threshold


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Rule("top", 11).threshold(RISK), "only 10 candidates"),
        (lambda: Rule("recruit", 11).threshold(RISK), "--recruit 11 --screen N"),
        (lambda: Rule("top", 0), "at least 1"),
        (lambda: Rule("top-fraction", 1.2), "up to 1"),
        (lambda: Rule("top-fraction", 0), "above 0"),
        (lambda: Rule("threshold", float("nan")), "--threshold"),
        (lambda: Rule("top", 3, screen=10), "--screen"),
        (lambda: Rule("recruit", 30, screen=10), "fewer than are wanted"),
    ],
)
def test_a_rule_that_cannot_be_met_is_refused(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=words):
        make()


def test_the_curve_goes_from_everybody_to_the_highest_and_has_the_rule() -> None:
    thresholds = curve_thresholds(RISK, also=0.33)
    assert thresholds[0] == RISK.min() and thresholds[-1] == RISK.max()
    assert 0.33 in thresholds
    assert (np.diff(thresholds) > 0).all()
    assert curve_thresholds(np.array([0.2, 0.2])).tolist() == [0.2]
