from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.errors import UsageError
from kneerisk.method.recalibration import KINDS, Conformal, Recalibration, logit, sigmoid
from kneerisk.study.derive import derive
from kneerisk.study.evaluate import evaluate
from kneerisk.study.recalibrate import applied, calibrate, fit_map
from kneerisk.study.statistics import agreement

Maker = Callable[..., Any]


def knees(n: int = 40_000, seed: int = 0) -> tuple[Any, Any, Any]:
    """Risks that are too extreme and too high, events by the true risks, and grades 0 to 3."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 4, n)
    x = rng.normal(-2, 1, n)
    return sigmoid(0.8 + 2 * x), rng.random(n) < sigmoid(x), grade


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibration_makes_slope_and_intercept_right_on_other_knees(kind: Any) -> None:
    risk, event, grade = knees()
    parameters = fit_map(kind, risk, event, grade)
    fresh, seen, grades = knees(seed=1)
    before = agreement.intercept_and_slope(fresh, seen)[1].value
    new = applied(kind, parameters, fresh, grades)
    large, slope = agreement.intercept_and_slope(new, seen)
    assert before == pytest.approx(0.5, abs=0.03)
    assert slope.value == pytest.approx(1, abs=0.05)
    assert large.value == pytest.approx(0, abs=0.06)
    if kind == "logistic":
        assert parameters["slope"] == pytest.approx(0.5, abs=0.02)
        assert parameters["intercept"] == pytest.approx(-0.4, abs=0.05)


def test_by_grade_gives_each_grade_its_own_rate() -> None:
    rng = np.random.default_rng(0)
    grade = rng.integers(0, 4, 20_000)
    x = rng.normal(-2, 1, 20_000)
    shift = np.array([-1.0, 0.0, 0.5, 1.0])
    event = rng.random(20_000) < sigmoid(x + shift[grade])
    parameters = fit_map("by-grade", sigmoid(x), event, grade)
    assert parameters["intercepts"][:4] == pytest.approx(shift, abs=0.15)
    assert parameters["slope"] == pytest.approx(1, abs=0.05)
    assert parameters["own"] == [0, 1, 2, 3]
    new = applied("by-grade", parameters, sigmoid(x), grade)
    for g in range(4):
        assert new[grade == g].mean() == pytest.approx(event[grade == g].mean(), abs=1e-6)


def test_a_grade_with_few_knees_shares_what_the_rest_have() -> None:
    risk, event, grade = knees(2000)
    grade = np.where(np.arange(2000) < 5, 3, np.minimum(grade, 2))
    parameters = fit_map("by-grade", risk, event, grade)
    assert parameters["own"] == [0, 1, 2]
    assert np.isfinite(parameters["intercepts"]).all()


def test_risks_that_run_against_the_events_are_refused() -> None:
    risk, event, grade = knees(4000)
    for kind in KINDS:
        with pytest.raises(UsageError, match=f"no {kind} calibration can be fitted"):
            fit_map(kind, 1 - risk, event, grade)


def test_a_map_keeps_the_order_zero_and_nothing() -> None:
    risk, event, grade = knees(5000)
    values = np.array([0.0, 0.001, 0.05, 0.2, 0.9, np.nan])
    for kind in KINDS:
        new = applied(kind, fit_map(kind, risk, event, grade), values, np.ones(6))
        assert new[0] == 0 and np.isnan(new[5])
        assert (np.diff(new[1:5]) >= 0).all()
        assert ((new[1:5] >= 0) & (new[1:5] <= 1)).all()


def test_beta_by_hand() -> None:
    blank: Any = {
        "column": "",
        "outcome": "",
        "months": 0,
        "population": "",
        "date": "",
        "stack": None,
        "fitted_on": {},
    }
    made = Recalibration(kind="beta", parameters={"intercept": 0.3, "a": 1.5, "b": 0.5}, **blank)
    assert made.apply(0.2) == pytest.approx(sigmoid(0.3 + 1.5 * np.log(0.2) - 0.5 * np.log(0.8)))
    with pytest.raises(ValueError, match="slope must be above 0"):
        Recalibration(kind="logistic", parameters={"intercept": 0, "slope": 0}, **blank)
    with pytest.raises(ValueError, match="needs the knees' grades"):
        Recalibration(kind="by-grade", parameters={"intercepts": [0] * 5, "slope": 1}, **blank).apply(0.2)
    assert logit(0.5) == 0


def test_calibrate_then_derive_makes_the_risks_of_another_sample_right(
    make_cohort: Maker, tmp_path: Path
) -> None:
    first = make_cohort("first", participants=3000, slope=1.8, shift=1.5)
    other = make_cohort("other", participants=3000, seed=9, slope=1.8, shift=1.5)
    out = tmp_path / "mine.json"
    done = calibrate(first.scores, first.labels, out, population="clinic A, 2024")
    r = done.recalibration
    assert list(done.excluded) == ["at KL 4 already, cannot have the outcome"]
    assert r.fitted_on["participants"] <= 3000 and r.fitted_on["events"] > 400
    assert r.measured["before"]["calibration_slope"]["value"] == pytest.approx(1 / 1.8, abs=0.08)
    assert r.measured["after"]["calibration_slope"]["value"] == pytest.approx(1, abs=0.1)
    assert r.measured["after"]["ici"] < 0.3 * r.measured["before"]["ici"]
    assert done.warnings == ()
    assert Recalibration.load(out) == r
    derive(other.scores, tmp_path / "made.parquet", calibrations=[out])
    found = evaluate(tmp_path / "made.parquet", other.labels, bootstraps=0)
    model = found.overall.scores["model"]
    # Two samples' standard errors, of about 0.053 each.
    assert model.calibration_slope.value == pytest.approx(1, abs=0.15)
    assert model.calibration_intercept.value == pytest.approx(0, abs=0.15)
    assert found.population == "clinic A, 2024"
    with pytest.raises(UsageError, match="recalibrated already"):
        calibrate(tmp_path / "made.parquet", other.labels, tmp_path / "again.json")


def test_a_calibration_keeps_what_the_run_of_its_knees_had_raised(make_cohort: Maker, tmp_path: Path) -> None:
    cohort = make_cohort("alarmed", participants=400)
    documents = {
        k: v for k, v in pl.read_parquet_metadata(cohort.scores).items() if k.startswith("kneerisk.")
    }
    alarms = [{"code": "novelty", "message": "unlike"}, "an earlier version's sentence"]
    documents["kneerisk.run"] = json.dumps({"alarms": alarms})
    pl.read_parquet(cohort.scores).write_parquet(cohort.scores, metadata=documents)
    done = calibrate(cohort.scores, cohort.labels, tmp_path / "mine.json")
    assert done.recalibration.alarms == ("novelty",)
    assert Recalibration.load(tmp_path / "mine.json") == done.recalibration


def test_what_is_measured_comes_of_participants_left_out(make_cohort: Maker, tmp_path: Path) -> None:
    """Isotonic bends to noise: on its own knees it would look perfect, on others it must not."""
    small = make_cohort("small", participants=150)
    done = calibrate(small.scores, small.labels, tmp_path / "c.json", kind="isotonic")
    assert done.recalibration.measured["after"]["calibration_slope"]["value"] < 0.9
    assert any("fewer than 100 leave a calibration unsure" in w for w in done.warnings)


def test_conformal_sets_cover_what_they_promise(make_cohort: Maker, tmp_path: Path) -> None:
    cohort = make_cohort("cohort", participants=1500)
    done = calibrate(cohort.scores, cohort.labels, tmp_path / "c.json", conformal=0.9)
    sets = done.recalibration.conformal
    assert sets is not None and sets.measured >= 0.88
    with pytest.raises(UsageError, match=r"--conformal 1\.5"):
        calibrate(cohort.scores, cohort.labels, tmp_path / "d.json", conformal=1.5)
    derive(cohort.scores, tmp_path / "d.parquet", calibrations=[tmp_path / "c.json"])
    written = pl.read_parquet(tmp_path / "d.parquet")
    held = [str(kl) in s.split(";") for kl, s in written.select("kl_0m", "kl_now_set").rows()]
    assert np.mean(held) == pytest.approx(sets.measured, abs=0.02)


def test_a_set_holds_what_reaches_the_threshold_and_always_the_likeliest() -> None:
    sets = Conformal(0.9, 0.25, 0.9, 1.5).sets(
        np.array([[0.3, 0.4, 0.25, 0.03, 0.02], [0.2, 0.2, 0.21, 0.2, 0.19]])
    )
    assert sets == [[0, 1, 2], [2]]


def test_conformal_counts_participants_not_knees() -> None:
    """A participant with many knees weighs no more than one with a single knee."""
    from kneerisk.study.recalibrate import _threshold

    truth = np.r_[np.linspace(0.5, 0.95, 99), np.full(100, 0.01)]
    owner = np.r_[np.arange(99), np.full(100, 99)]
    assert _threshold(truth, owner, 0.9) > 0.5
    assert _threshold(np.array([0.9, 0.8]), np.array([0, 1]), 0.9) == 0.0


def test_what_cannot_be_calibrated_is_refused(make_cohort: Maker, tmp_path: Path) -> None:
    tiny = make_cohort("tiny", participants=20)
    with pytest.raises(UsageError, match=r"nothing to calibrate to: \d+ events"):
        calibrate(tiny.scores, tiny.labels, tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="is no calibration of this kneerisk"):
        Recalibration.load(tmp_path / "other.json")


def test_the_command_says_what_it_did(make_cohort: Maker, tmp_path: Path) -> None:
    cohort = make_cohort("cohort", participants=400)
    arguments = [
        "calibrate",
        str(cohort.scores),
        "--labels",
        str(cohort.labels),
        "--out",
        str(tmp_path / "c.json"),
    ]
    done = CliRunner().invoke(app, [*arguments, "--kind", "by-grade", "--population", "clinic B"])
    assert done.exit_code == 0, done.output
    assert "by-grade calibration of risk_12m to clinic B" in " ".join(done.stdout.split())
    done = CliRunner().invoke(app, [*arguments, "--overwrite", "--json"])
    assert json.loads(done.stdout)["kind"] == "logistic"
