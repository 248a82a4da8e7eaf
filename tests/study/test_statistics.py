"""Figures against R's (golden/make_golden.R), closed forms, and other libraries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from kneerisk.study.results import Figure
from kneerisk.study.statistics import agreement, bootstrap, decisions, discrimination

GOLDEN = Path(__file__).with_name("golden")
R = json.loads((GOLDEN / "golden.json").read_text())
EXAMPLE = pl.read_csv(GOLDEN / "example.csv")
EVENT = EXAMPLE["event"].to_numpy().astype(bool)
A, B = EXAMPLE["score_a"].to_numpy(), EXAMPLE["score_b"].to_numpy()
ALONE = np.arange(len(EVENT))


@pytest.mark.parametrize("name", ["score_a", "score_b"])
def test_auc_and_its_delong_interval_are_pROCs(name: str) -> None:  # noqa: N802
    score, r = EXAMPLE[name].to_numpy(), R[name]
    found = discrimination.delong([score], EVENT)
    assert discrimination.auc(score, EVENT) == pytest.approx(r["auc"], abs=1e-12)
    assert found.auc[0] == pytest.approx(r["auc"], abs=1e-12)
    assert found.covariance[0, 0] == pytest.approx(r["auc_variance"], rel=1e-10)
    assert found.interval(0) == pytest.approx((r["auc_low"], r["auc_high"]), abs=1e-10)


def test_the_paired_delong_p_is_pROCs() -> None:  # noqa: N802
    found = discrimination.delong([A, B], EVENT)
    assert found.p_of_difference(0, 1) == pytest.approx(R["p_delong"], rel=1e-8)
    assert discrimination.delong([A, A], EVENT).p_of_difference(0, 1) is None


@pytest.mark.parametrize("name", ["score_a", "score_b"])
def test_calibration_is_that_of_rms(name: str) -> None:
    score, r = EXAMPLE[name].to_numpy(), R[name]
    assert agreement.brier(score, EVENT) == pytest.approx(r["brier"], abs=1e-12)
    large, slope = agreement.intercept_and_slope(score, EVENT)
    assert large.value == pytest.approx(r["large"], abs=1e-6)
    assert slope.value == pytest.approx(r["slope"], abs=1e-6)
    ici, e50, e90 = agreement.distances(score, EVENT)
    assert ici.value == pytest.approx(r["ici"], abs=1e-6)
    assert e50.value == pytest.approx(r["e50"], abs=1e-6)
    assert e90.value == pytest.approx(r["e90"], abs=1e-6)


def test_net_benefit_and_operating_points_are_as_defined() -> None:
    thresholds = [each["threshold"] for each in R["thresholds"]]
    codes = decisions.codes_by_threshold(A, thresholds)
    counts = bootstrap.Counts.of(codes, EVENT, ALONE, len(A), len(thresholds) + 1)
    once = counts.once()
    benefit = decisions.net_benefits_of(thresholds)(*once)[0, 0]
    at = decisions.operating_of(*once)[0, 0]
    for row, each in enumerate(R["thresholds"]):
        assert benefit[row] == pytest.approx(each["net_benefit"], abs=1e-12)
        assert at[row] == pytest.approx([each[m] for m in decisions.MEASURES], abs=1e-12)


def test_net_benefit_of_treating_all_by_hand() -> None:
    assert decisions.net_benefit(20, 80, 100, 0.2) == pytest.approx(0.2 - 0.8 * 0.25)


def test_clustered_delong_is_delongs_where_each_participant_has_one_knee() -> None:
    plain, clustered = discrimination.delong([A, B], EVENT), discrimination.delong([A, B], EVENT, ALONE)
    assert clustered.covariance == pytest.approx(plain.covariance, rel=1e-12)


def test_a_knee_counted_twice_for_one_participant_tells_nothing_new() -> None:
    single = discrimination.delong([A], EVENT)
    twice, event = np.repeat(A, 2), np.repeat(EVENT, 2)
    clustered = discrimination.delong([twice], event, np.repeat(ALONE, 2))
    assert clustered.covariance[0, 0] == pytest.approx(single.covariance[0, 0], rel=1e-9)
    assert discrimination.delong([twice], event).covariance[0, 0] < 0.6 * single.covariance[0, 0]


def test_clustered_delong_and_the_bootstrap_agree_where_participants_have_knees_of_both_kinds() -> None:
    """Scores go together within a participant, and one knee of two has the event: the cross term counts."""
    rng = np.random.default_rng(1)
    people = 600
    owner = np.repeat(np.arange(people), 2)
    score = rng.normal(size=people)[owner] + 0.3 * rng.normal(size=2 * people)
    event = np.tile([True, False], people) ^ (rng.random(2 * people) < 0.1)
    score = score + 0.3 * event
    codes, bins = bootstrap.codes_of(score)
    counts = bootstrap.Counts.of(codes, event, owner, people, bins)
    drawn = bootstrap.run({"": (counts, {"auc": bootstrap.auc_of})}, people, 1000, 0)[""]["auc"][0]
    clustered = discrimination.delong([score], event, owner).covariance[0, 0] ** 0.5
    plain = discrimination.delong([score], event).covariance[0, 0] ** 0.5
    assert np.std(drawn) == pytest.approx(clustered, rel=0.1)
    assert plain > 1.3 * clustered


def test_the_fit_is_statsmodels_with_its_sandwich_over_participants() -> None:
    owner = np.repeat(np.arange(200), 2)
    x = np.column_stack([np.ones(400), agreement.logit(A)])
    ours = agreement.fit_logistic(x, EVENT, owner)
    theirs = sm.GLM(EVENT.astype(float), x, family=sm.families.Binomial())
    theirs = theirs.fit(cov_type="cluster", cov_kwds={"groups": owner, "use_correction": False})
    assert ours.coefficients == pytest.approx(theirs.params, abs=1e-8)
    people = 200 / 199  # the sandwich's own correction for few participants
    assert np.diag(ours.covariance) == pytest.approx(theirs.bse**2 * people, rel=1e-6)


def test_no_maximum_is_an_error_and_no_slope() -> None:
    risk = np.array([0.1] * 20 + [0.9] * 20)
    event = risk > 0.5
    with pytest.raises(ValueError, match="no maximum"):
        agreement.fit_logistic(np.column_stack([np.ones(40), agreement.logit(risk)]), event)
    assert agreement.intercept_and_slope(risk, event)[1].reason == "the logistic fit has no maximum"
    assert agreement.intercept_and_slope(np.full(40, 0.2), event)[1].reason == "every knee has the same risk"


def test_weighted_counts_give_the_figures_of_the_knees_drawn() -> None:
    """A draw by counts is the same as the figures of the rows repeated as often as they were drawn."""
    owner = ALONE // 2
    weights = next(bootstrap.draws(200, 3, 7))
    codes, bins = bootstrap.codes_of(B)
    means = np.array([B[codes == k].mean() for k in range(bins)])
    counts = bootstrap.Counts.of(codes, EVENT, owner, 200, bins)
    drawn = counts.weighed(weights)
    for draw in range(3):
        rows = np.repeat(ALONE, weights[owner, draw].astype(int))
        assert bootstrap.auc_of(*drawn)[0, draw] == pytest.approx(roc_auc_score(EVENT[rows], B[rows]))
        precision = average_precision_score(EVENT[rows], B[rows])
        assert bootstrap.average_precision_of(*drawn)[0, draw] == pytest.approx(precision)
        brier = brier_score_loss(EVENT[rows], B[rows])
        assert bootstrap.brier_of(means)(*drawn)[0, draw] == pytest.approx(brier)


def test_groups_are_counted_apart_on_the_same_draws() -> None:
    owner, group = ALONE // 2, (A > 0.3).astype(np.int64)
    weights = next(bootstrap.draws(200, 3, 7))
    codes, bins = bootstrap.codes_of(B)
    both = bootstrap.Counts.of(codes, EVENT, owner, 200, bins, group, 2)
    for number in range(2):
        inside = group == number
        one = bootstrap.Counts.of(codes[inside], EVENT[inside], owner[inside], 200, bins)
        alone = bootstrap.auc_of(*one.weighed(weights))[0]
        assert bootstrap.auc_of(*both.weighed(weights))[number] == pytest.approx(alone)


def test_a_draw_weighs_participants_as_drawing_with_replacement_does() -> None:
    blocks = list(bootstrap.draws(5000, 100, 3))
    assert [block.shape for block in blocks] == [(5000, 32), (5000, 32), (5000, 32), (5000, 4)]
    weights = np.concatenate(blocks, axis=1)
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    again = np.concatenate(list(bootstrap.draws(5000, 100, 3)), axis=1)
    assert (weights == again).all()
    assert (weights != np.concatenate(list(bootstrap.draws(5000, 100, 4)), axis=1)).any()


def test_many_values_are_binned_without_moving_the_interval() -> None:
    rng = np.random.default_rng(5)
    score = rng.random(20_000)
    event = rng.random(20_000) < 0.02 + 0.1 * score
    codes, bins = bootstrap.codes_of(score)
    assert bins == bootstrap.BINS
    assert (np.diff(codes[np.argsort(score)]) >= 0).all()
    counts = bootstrap.Counts.of(codes, event, np.arange(20_000), 20_000, bins)
    binned = bootstrap.auc_of(*counts.once())[0, 0]
    assert binned == pytest.approx(discrimination.auc(score, event), abs=1e-5)


def test_an_interval_is_of_percentiles_and_may_be_missing() -> None:
    replicates = np.arange(1001) / 1000
    assert bootstrap.interval(0.5, replicates) == Figure(0.5, 0.025, 0.975)
    moved = bootstrap.interval(0.5, replicates, 0.4)
    assert (moved.low, moved.high) == pytest.approx((0.125, 1.075))
    assert bootstrap.interval(0.5, np.full(100, np.nan)) == Figure(0.5)
    assert bootstrap.interval(float("nan"), replicates).reason == "not defined here"


def test_wilsons_interval_by_hand() -> None:
    """Of 10 in 100: a textbook value."""
    assert agreement.wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=1e-4)
    assert agreement.wilson(0, 20)[0] == 0


def test_the_reliability_plot_counts_every_knee_once() -> None:
    points = agreement.reliability(B, EVENT)
    assert sum(p.knees for p in points) == len(B) and sum(p.events for p in points) == EVENT.sum()
    assert [p.risk for p in points] == sorted(p.risk for p in points)
    assert all(p.low <= p.observed <= p.high for p in points)
