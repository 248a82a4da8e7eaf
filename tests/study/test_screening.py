from __future__ import annotations

import numpy as np
import pytest

from kneerisk.study.enrichment.sample_size import Trial
from kneerisk.study.enrichment.screening import Pool, points

NAN = float("nan")
RISK = np.array([0.05, 0.10, 0.10, 0.20, 0.40, 0.60])
EVENT = np.array([0.0, 0.0, 1.0, NAN, 1.0, 0.0])


def people(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64)


def test_counts_and_rates_at_a_threshold() -> None:
    """By hand: at 0.1 five of six are selected, four followed, two events; at 0.4 two, two, one."""
    everybody, (low, high) = points(Pool(RISK, people(6), EVENT), np.array([0.1, 0.4]), Trial(), bootstrap=0)
    assert (everybody.threshold, everybody.selected, everybody.followed, everybody.events) == (None, 6, 5, 2)
    assert everybody.event_rate.value == pytest.approx(2 / 5)
    assert (low.selected, low.followed, low.events) == (5, 4, 2)
    assert low.event_rate.value == pytest.approx(2 / 4)
    assert low.predicted_rate.value == pytest.approx((0.1 + 0.1 + 0.4 + 0.6) / 4)
    assert low.share == pytest.approx(5 / 6)
    assert low.number_needed_to_screen.value == pytest.approx(6 / 5)
    assert (high.selected, high.followed, high.events) == (2, 2, 1)
    assert high.captured.value == pytest.approx(1 / 2)
    assert high.event_rate.low is None  # no bootstrap, no interval


def test_the_trial_follows_from_the_rate() -> None:
    trial = Trial(effect=0.5, power=0.9, dropout=0.1, cost_screen=10, cost_enrolled=1000)
    everybody, (high,) = points(Pool(RISK, people(6), EVENT), np.array([0.4]), trial, bootstrap=0)
    arm = int(np.ceil(trial.per_arm(0.5)))
    assert high.per_arm.value == arm
    assert high.enrolled.value == 2 * np.ceil(arm / 0.9)
    assert high.screened.value == 3 * high.enrolled.value
    assert high.cost.value == 1000 * high.enrolled.value + 10 * high.screened.value
    assert everybody.enrolled.value == float(trial.enrolled(0.4))
    assert everybody.cost.value == 1000 * everybody.enrolled.value  # nobody is screened


def test_without_labels_the_rate_is_the_mean_risk() -> None:
    everybody, (high,) = points(Pool(RISK, people(6)), np.array([0.2]), Trial(), bootstrap=0)
    assert high.event_rate.value == pytest.approx(0.4)
    assert high.captured.value == pytest.approx(1.2 / RISK.sum())
    assert (high.events, high.followed, high.agrees) == (None, 0, None)
    assert everybody.event_rate.value == pytest.approx(RISK.mean())


def test_what_cannot_be_told_is_none_and_says_why() -> None:
    _, (none, unknown, nobody) = points(
        Pool(np.array([0.1, 0.2, 0.3]), people(3), np.array([1.0, 0.0, NAN])),
        np.array([0.2, 0.3, 0.9]),
        Trial(),
        bootstrap=20,
    )
    assert none.event_rate.value == 0 and none.per_arm.value is None
    assert none.per_arm.reason == "no event among those selected"
    assert unknown.event_rate.value is None
    assert unknown.event_rate.reason == "the outcome of nobody selected is known"
    assert unknown.number_needed_to_screen.value == 3
    assert nobody.selected == 0 and nobody.number_needed_to_screen.value is None
    assert nobody.cost.reason == "costs were not given"
    score = Pool(RISK, people(6), EVENT, is_probability=False)
    assert points(score, np.array([0.1]), Trial(), bootstrap=0)[1][0].predicted_rate.value is None


def simulated(
    people_: int, knees: int, shared: float, seed: int, scale: float = 1.0
) -> tuple[Pool, np.ndarray]:
    """Knees whose events follow from a true risk; a person's knees have ``shared`` of it in common."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people_, dtype=np.int64), knees)
    liability = np.sqrt(shared) * rng.normal(size=people_)[person]
    liability += np.sqrt(1 - shared) * rng.normal(size=len(person))
    true = 1 / (1 + np.exp(2.5 - 0.8 * liability))
    event = (rng.random(len(person)) < true).astype(np.float64)
    return Pool(np.clip(true * scale, 0, 1), person, event), true


def test_few_events_are_cautioned_against() -> None:
    pool, _ = simulated(60, 1, 0.0, 3)
    everybody, _ = points(pool, np.array([0.0]), Trial(), bootstrap=50)
    assert everybody.events is not None and everybody.events < 10
    assert everybody.caution is not None and f"only {everybody.events} events" in everybody.caution
    many, _ = points(simulated(2000, 1, 0.0, 3)[0], np.array([0.0]), Trial(), bootstrap=50)
    assert many.caution is None


def test_two_knees_that_are_one_widen_the_interval_by_the_root_of_two() -> None:
    """Resampled as one, a knee and its copy tell no more than one; as two they would seem to."""
    pool, _ = simulated(3000, 1, 0.0, 5)
    assert pool.event is not None
    twice = Pool(np.repeat(pool.risk, 2), np.repeat(pool.person, 2), np.repeat(pool.event, 2))
    apart = Pool(twice.risk, people(6000), twice.event)
    widths = []
    for each in (twice, apart):
        figure = points(each, np.array([0.0]), Trial(), bootstrap=1500, seed=1)[0].event_rate
        assert figure.low is not None and figure.high is not None
        widths.append(figure.high - figure.low)
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(2), rel=0.1)
    p = float(pool.event.mean())
    assert widths[0] == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 3000), rel=0.1)


def test_intervals_hold_the_true_rate_as_often_as_they_say() -> None:
    """Of 200 cohorts, about 190; the thresholds are the protocol's and stay as they are."""
    inside = 0
    for seed in range(200):
        pool, true = simulated(500, 2, 0.6, seed)
        (point,) = points(pool, np.array([0.1]), Trial(), bootstrap=300, seed=seed)[1]
        figure = point.event_rate
        assert figure.low is not None and figure.high is not None
        inside += figure.low <= true[pool.risk >= 0.1].mean() <= figure.high
    assert 0.90 <= inside / 200 <= 0.985


def test_right_risks_agree_with_what_comes_and_wrong_ones_do_not() -> None:
    """20,000 knees with known risks: told right, four times too high, and half as high."""
    thresholds = np.array([0.1, 0.2])
    right, _ = simulated(10_000, 2, 0.6, 11)
    assert [p.agrees for p in points(right, thresholds, Trial(), bootstrap=300)[1]] == [True, True]
    for scale in (4.0, 0.5):
        wrong, _ = simulated(10_000, 2, 0.6, 11, scale)
        assert [p.agrees for p in points(wrong, thresholds, Trial(), bootstrap=300)[1]] == [False, False]


def test_one_seed_gives_one_answer() -> None:
    pool, _ = simulated(300, 2, 0.6, 2)
    first, again, other = (
        points(pool, np.array([0.1]), Trial(), bootstrap=50, seed=seed) for seed in (4, 4, 5)
    )
    assert first == again != other


def test_a_resample_without_events_leaves_the_upper_end_open() -> None:
    pool = Pool(np.full(20, 0.1), people(20), np.array([1.0] + [0.0] * 19))
    everybody, _ = points(pool, np.array([0.1]), Trial(), bootstrap=400)
    assert everybody.per_arm.value is not None and everybody.per_arm.low is not None
    assert everybody.per_arm.high is None
