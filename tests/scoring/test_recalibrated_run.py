"""``score --calibration``: the headline at a cohort's own rates, and everything that names it."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from kneerisk.errors import UsageError
from kneerisk.method.recalibration import Recalibration
from kneerisk.scoring.cohort import recalibration_for
from kneerisk.scoring.merge import merge_tables
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.summary import Tally
from kneerisk.scoring.run import Summary
from kneerisk.scoring.settings import RunSettings, Shard
from kneerisk.study.derive import derive

RISKS = ("risk_12m", "risk_12m_lo", "risk_12m_hi")


def fitted(path: Path, **changes: Any) -> Path:
    """A calibration of the fake stack's risks, on disk."""
    values: dict[str, Any] = {
        "kind": "by-grade", "column": "risk_12m", "outcome": "any-rise", "months": 12,
        "population": "clinic A", "date": "2025-01-31", "stack": "fake",
        "parameters": {"intercepts": [0.3, -0.4, 0.5, 1.0, 0.0], "slope": 1.7},
        "fitted_on": {"knees": 900, "participants": 500, "events": 120},
    }  # fmt: skip
    path.write_text(Recalibration(**(values | changes)).dumps(), "utf-8")
    return path


def test_a_run_with_a_calibration_is_the_table_that_derive_makes_of_one_without(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    mine = fitted(tmp_path / "mine.json")
    plain, at_once = tmp_path / "plain.parquet", tmp_path / "at_once.parquet"
    fake.run(cohort, RunSettings(plain))
    fake.run(cohort, RunSettings(at_once, calibration=mine))
    # The fake stack has no equations of its own, and none are asked for here.
    derive(plain, tmp_path / "later.parquet", calibrations=[mine])
    got, later, before = (table.read(p) for p in (at_once, tmp_path / "later.parquet", plain))
    for name in RISKS:
        assert got[name].to_list() == pytest.approx(later[name].to_list(), abs=5e-6, nan_ok=True)
        assert got[name].to_list() != pytest.approx(before[name].to_list(), abs=1e-2, nan_ok=True)
    assert got.drop(RISKS).equals(before.drop(RISKS))


def test_the_table_names_whose_rates_it_has(fake: ModuleType, cohort: Path, tmp_path: Path) -> None:
    mine, out = fitted(tmp_path / "mine.json"), tmp_path / "r.csv"
    *_, summary = fake.run(cohort, RunSettings(out, calibration=mine))
    assert summary.population == "clinic A"
    found = table.read_metadata(out)
    digest = hashlib.sha256(mine.read_bytes()).hexdigest()
    applied = found["run"]["recalibrated"]["risk_12m"]
    assert (applied["population"], applied["date"], applied["sha256"]) == ("clinic A", "2025-01-31", digest)
    meanings = {name: entry["meaning"] for name, entry in found["data_dictionary"].items()}
    said = {name for name, meaning in meanings.items() if "recalibrated (by-grade) to: clinic A" in meaning}
    assert said == set(RISKS)
    assert found["calibration"]["population"] == "a made-up population"
    with pytest.raises(UsageError, match="recalibrated already"):
        derive(out, tmp_path / "twice.parquet", calibrations=[mine])


def test_a_run_resumes_with_its_own_calibration_alone(fake: ModuleType, cohort: Path, tmp_path: Path) -> None:
    out, mine = tmp_path / "r.parquet", fitted(tmp_path / "mine.json")
    fake.run(cohort, RunSettings(out, calibration=mine))
    renamed = mine.rename(tmp_path / "renamed.json")
    *_, again = fake.run(cohort, RunSettings(out, calibration=renamed, resume=True))
    assert again.reused == again.images and again.population == "clinic A"
    other = fitted(tmp_path / "other.json", parameters={"intercepts": [0.0] * 5, "slope": 1.0})
    with pytest.raises(UsageError, match=r"cannot resume.*calibration was"):
        fake.run(cohort, RunSettings(out, calibration=other, resume=True))
    with pytest.raises(UsageError, match=r"cannot resume.*calibration was.*is now null"):
        fake.run(cohort, RunSettings(out, resume=True))


def test_shards_merge_with_their_calibration(fake: ModuleType, cohort: Path, tmp_path: Path) -> None:
    mine, parts = fitted(tmp_path / "mine.json"), [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for i, part in enumerate(parts, start=1):
        fake.run(cohort, RunSettings(part, calibration=mine, shard=Shard(i, 2)))
    summary = merge_tables(parts, tmp_path / "all.parquet")
    assert summary.population == "clinic A"
    found = table.read_metadata(tmp_path / "all.parquet")
    assert found["run"]["recalibrated"]["risk_12m"]["population"] == "clinic A"
    assert "clinic A" in found["data_dictionary"]["risk_12m"]["meaning"]
    fake.run(cohort, RunSettings(tmp_path / "plain.parquet", shard=Shard(2, 2)))
    with pytest.raises(UsageError, match="they differ in calibration"):
        merge_tables([parts[0], tmp_path / "plain.parquet"], tmp_path / "mixed.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"column": "risk_severe_24m", "outcome": "severe", "months": 24}, "is for risk_severe_24m.*derive"),
        ({"stack": "compact-0.4.0"}, "maps risks of compact-0.4.0, and this run's are of fake"),
        ({"stack": None}, "maps risks of several stacks"),
    ],
)
def test_a_calibration_of_other_risks_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        recalibration_for(fitted(tmp_path / "c.json", **changes), "fake")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("risk", "is no calibration"),
        ("[1, 2]", "is no calibration"),
        ('{"format": 3, "population": "a stack\'s own calibration.json"}', "its format is not 1"),
        (json.dumps({"format": 1, "kind": "beta"}), "is no calibration"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        recalibration_for(tmp_path / "c.json", "fake")


def test_a_calibration_without_a_parameter_is_refused(tmp_path: Path) -> None:
    data = json.loads(fitted(tmp_path / "c.json").read_text("utf-8"))
    for kind, parameters, lacks in (
        ("beta", {"intercept": 0, "a": 1}, "b"),
        ("isotonic", {"x": [0, 1]}, "y"),
        ("by-grade", {"slope": 1}, "intercepts"),
    ):
        (tmp_path / "c.json").write_text(json.dumps({**data, "kind": kind, "parameters": parameters}))
        with pytest.raises(UsageError, match=f"parameters lack {lacks}"):
            Recalibration.load(tmp_path / "c.json")


def test_sets_of_grades_are_said_not_to_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sets = {"coverage": 0.9, "threshold": 0.1, "measured": 0.9, "mean_size": 2.0}
    with caplog.at_level(logging.WARNING):
        recalibration_for(fitted(tmp_path / "c.json", conformal=sets), "fake")
    assert "kl_now_set" in caplog.text


def test_an_alarm_that_the_fitting_knees_raised_too_is_answered(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    fake.run(cohort, RunSettings(tmp_path / "r.parquet"))
    rows = table.read(tmp_path / "r.parquet").filter(status="ok").with_columns(risk_12m_image=pl.lit(0.1))
    tally = Tally()
    for row in rows.iter_rows(named=True):
        tally.add(row)

    def summary(*alarms: str) -> Summary:
        found = Recalibration.load(fitted(tmp_path / "c.json", alarms=alarms))
        return tally.summary("r", fake.CALIBRATION, found)

    assert [alarm.code for alarm in summary().alarms] == ["same-risk"]
    assert summary().answered == summary("novelty").answered == ()
    assert summary("same-risk").answered == ("same-risk",)
