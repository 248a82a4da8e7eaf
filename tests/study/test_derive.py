from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.errors import StackError, UsageError
from kneerisk.method.recalibration import Recalibration
from kneerisk.scoring.outputs import table as score_table
from kneerisk.stack.stack import Stack
from kneerisk.study.derive import derive
from kneerisk.study.outcomes import MONTHS, Outcome
from kneerisk.study.risks.equations import BASES, Equations, Knees, fit
from kneerisk.study.risks.neighbours import knees_of

Maker = Callable[..., Any]
P = (0.1, 0.3, 0.4, 0.15, 0.05)
Q = (0.6, 0.2, 0.1, 0.06, 0.04)


def shipped() -> Equations:
    data = Stack.load("compact").outcomes()
    assert data is not None
    return Equations.from_json(data)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def one(grade: float = math.nan, other_grade: float = math.nan, p: Any = P, q: Any = Q) -> Knees:
    nan = [math.nan] * 5
    return Knees(np.array([p]), np.array([grade]), np.array([q or nan]), np.array([other_grade]))


def test_the_shipped_equations_know_every_outcome_and_horizon() -> None:
    equations = shipped()
    assert len(equations.equations) == 64
    assert equations.posteriors == "compact-0.3.0"  # fitted to them, before 0.4.0
    assert all(equations.horizons(outcome) == MONTHS for outcome in Outcome)
    assert "OAI readings of the train and val participants of Chen's set" in equations.population


def test_an_equation_from_the_image_is_its_file_s_own_by_hand() -> None:
    """Written out from the numbers of outcomes.json for any rise within 12 months, image and other knee."""
    e = sum(g * p for g, p in enumerate(P))
    o = sum(g * p for g, p in enumerate(Q))
    entropy = -sum(p * math.log(p) for p in P)
    x = (
        -5.5875 - 0.1138 * logit(0.1) - 0.2789 * logit(0.3) + 0.1192 * logit(0.4) - 0.1658 * logit(0.15)
        + 0.0591 * logit(0.05) - 0.1914 * e + 0.0402 * e * e + 2.3801 * entropy + 0.2391 * o
        - 0.0412 * o * o + 0.2834 * abs(e - o)
    )  # fmt: skip
    risk, basis = shipped().risk(Outcome.ANY_RISE, 12, one())
    assert basis.tolist() == ["image+other"]
    assert risk[0] == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-12)
    assert (
        one().feature("difference")[0] == one(p=Q, q=P).feature("difference")[0] == pytest.approx(abs(e - o))
    )


def test_an_equation_given_a_grade_is_its_file_s_own_by_hand() -> None:
    """Written out from the numbers of outcomes.json for incident OA within 24 months."""
    e = sum(g * p for g, p in enumerate(P))
    above = logit(0.4 + 0.15 + 0.05)
    x = -2.7958 + 0.9602 + 0.3915 * above - 0.1173 * (e - 1) + 0.1353 * 2 + 0.3516
    risk, basis = shipped().risk(Outcome.INCIDENT_OA, 24, one(1, 2))
    assert basis.tolist() == ["grade+other"]
    assert risk[0] == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-12)
    x = -2.4933 + 1.0619 + 0.4379 * above - 0.1182 * (e - 1)
    risk, basis = shipped().risk(Outcome.INCIDENT_OA, 24, one(1, math.nan))
    assert basis.tolist() == ["grade"]
    assert risk[0] == pytest.approx(1 / (1 + math.exp(-x)), rel=1e-12)


def test_probabilities_near_0_and_1_are_clipped_as_the_equations_were_fitted() -> None:
    sure = one(p=(1.0, 0.0, 0.0, 0.0, 0.0), q=None)
    assert sure.feature("logit_p0")[0] == pytest.approx(logit(1 - 1e-4))
    assert sure.feature("logit_p4")[0] == pytest.approx(logit(1e-4))
    assert one(0, p=(1.0, 0.0, 0.0, 0.0, 0.0)).feature("logit_above")[0] == pytest.approx(logit(1e-4))
    assert sure.feature("entropy")[0] == 0


@pytest.mark.parametrize(
    ("outcome", "grade", "can"),
    [("any-rise", 4, False), ("any-rise", 3, True), ("incident-oa", 2, False), ("incident-oa", 1, True),
     ("severe", 3, False), ("severe", 2, True), ("two-grades", 3, False), ("two-grades", 2, True)],
)  # fmt: skip
def test_a_knee_of_a_grade_with_nowhere_to_go_has_0(outcome: str, grade: int, can: bool) -> None:
    for months in MONTHS:
        risk, basis = shipped().risk(Outcome(outcome), months, one(grade, 2))
        assert (risk[0] > 0) == can
        assert basis[0] in ("grade", "grade+other")


def test_an_image_alone_has_0_only_where_it_is_sure() -> None:
    risk, _ = shipped().risk(Outcome.SEVERE, 12, one(p=(0, 0, 0.04, 0.5, 0.46)), ["image"])
    assert risk[0] == 0
    risk, _ = shipped().risk(Outcome.SEVERE, 12, one(p=(0, 0, 0.06, 0.5, 0.44)), ["image"])
    assert risk[0] > 0


def test_two_grades_go_by_the_rates_of_the_grade_for_want_of_an_equation() -> None:
    risk, basis = shipped().risk(Outcome.TWO_GRADES, 12, one(1, 3))
    assert (risk[0], basis[0]) == (0.0132, "grade")
    risk, basis = shipped().risk(Outcome.TWO_GRADES, 12, one())
    assert risk[0] == pytest.approx(0.1 * 0.0145 + 0.3 * 0.0132 + 0.4 * 0.0025) and basis[0] == "image"


def test_damaged_equations_are_refused() -> None:
    data = shipped().to_json()
    del data["equations"][0]["coefficients"]["entropy"]
    with pytest.raises(StackError, match=r"outcomes\.json is damaged"):
        Equations.from_json(data)
    with pytest.raises(StackError, match="format 7"):
        Equations.from_json({**shipped().to_json(), "format": 7})


def test_a_stack_s_own_equations_are_fitted_to_its_visits() -> None:
    """Risks of a known form come back; outcomes without events enough fall back to the grades' rates."""
    rng = np.random.default_rng(0)
    n = 30_000
    posterior = rng.dirichlet([3, 2, 2, 1, 0.5], n)
    grade = np.array([rng.choice(5, p=p) for p in posterior]).astype(float)
    other = rng.permutation(grade)
    nobody = np.full((n, 5), np.nan)
    knees = Knees(posterior, grade, nobody, other)
    above = np.where(np.arange(5) > grade[:, None], posterior, 0).sum(axis=1).clip(1e-4, 1 - 1e-4)
    true = 1 / (1 + np.exp(-(-2 + 0.5 * np.log(above / (1 - above)) + 0.4 * (other >= 2))))
    rises = (rng.random(n) < true) & (grade < 4)
    later = grade + rises
    later[:500] = np.nan
    found = fit(knees, {24: later}, population="simulated", posteriors="own-0.1.0")
    kinds = {e.kind for e in found.equations if e.outcome is Outcome.ANY_RISE}
    assert kinds == {"image", "grade", "grade+other"}
    risk, basis = found.risk(Outcome.ANY_RISE, 24, knees)
    assert set(basis) == {"grade+other"}
    able = grade < 4
    assert np.abs(risk[able] - true[able]).mean() < 0.012
    assert (risk[~able] == 0).all()
    rates = {r.outcome: r for r in found.rates}
    assert rates[Outcome.TWO_GRADES].by_grade == (0, 0, 0, 0, 0)
    assert Equations.from_json(json.loads(found.dumps())) == found


def test_the_other_knee_is_of_the_same_participant_and_visit(knee: Maker, table: Maker) -> None:
    rows = [
        knee("A", "L", visit="0m", kl_0m=1, p=P),
        knee("A", "R", visit="0m", kl_0m=3, p=Q),
        knee("A", "R", visit="12m", kl_0m=4, p=Q),
        knee("B", "R", visit="0m", kl_0m=2, p=Q),
        knee(None, "L", visit=None, source_path="x.dcm", p=P),
        knee(None, "R", visit=None, source_path="y.dcm", p=Q),
        knee("C", "L", kl_0m=0, p=P),
        knee("C", "R", kl_0m=2, status="refused", p=Q),
    ]
    frame = pl.read_parquet(table(*rows))
    knees, untold = knees_of(frame)
    assert untold == 0
    assert str(knees.other_grade.tolist()) == "[3.0, 1.0, nan, nan, nan, nan, 2.0, 0.0]"
    assert knees.other_posterior[0].tolist() == list(Q) and knees.other_posterior[1].tolist() == list(P)
    assert np.isnan(knees.other_posterior[[2, 3, 4, 5, 6]]).all()
    assert knees.other_posterior[7].tolist() == list(P)


def test_of_several_rows_the_other_knee_is_the_one_in_the_same_image(knee: Maker, table: Maker) -> None:
    rows = [
        knee("A", "L", source_path="1.dcm", kl_0m=1),
        knee("A", "R", source_path="1.dcm", kl_0m=2),
        knee("A", "R", source_path="2.dcm", kl_0m=3),
        knee("A", "L", source_path="3.dcm", kl_0m=0),
        knee(None, "L", source_path="4.dcm", kl_0m=0),
        knee(None, "R", source_path="4.dcm", kl_0m=1),
    ]
    knees, untold = knees_of(pl.read_parquet(table(*rows)))
    assert str(knees.other_grade.tolist()) == "[2.0, 1.0, nan, nan, 1.0, 0.0]"
    assert untold == 2
    twice = [knee("A", "L", kl_0m=1), knee("A", "R", kl_0m=2), knee("A", "R", kl_0m=3)]
    knees, untold = knees_of(pl.read_parquet(table(*twice, name="twice.parquet")))
    assert str(knees.other_grade.tolist()) == "[nan, 1.0, 1.0]" and untold == 1


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_derive_adds_columns_with_their_basis_and_dictionary(
    tmp_path: Path, knee: Maker, table: Maker, suffix: str
) -> None:
    rows = [
        knee("0012", "L", kl_0m=1, p=P, site="007", age="61"),
        knee("0012", "R", kl_0m=3, p=Q, site="007", age="61"),
        knee("NA", "L", p=P, site="8", age="50"),
        knee("Z", "R", status="refused", risk_12m=None, kl_now=None, site="8", age=None),
    ]
    out = tmp_path / f"derived.{suffix}"
    done = derive(table(*rows), out, outcomes=[Outcome.INCIDENT_OA], months=[24], bom=suffix == "csv")
    got = pl.read_parquet(out) if suffix == "parquet" else pl.read_csv(out, infer_schema=False)
    assert got.columns[:3] == ["participant_id", "visit", "side"]
    assert got["site"].to_list() == ["007", "007", "8", "8"]
    assert got["risk_incident_oa_24m_basis"].to_list() == ["grade+other", "grade+other", "image", None]
    values = [None if v is None else float(v) for v in got["risk_incident_oa_24m"]]
    expected, _ = shipped().risk(Outcome.INCIDENT_OA, 24, one(1, 3))
    assert values[0] == pytest.approx(expected[0], abs=1e-6)
    assert values[1] == 0 and values[3] is None
    assert done.basis == {"grade+other": 2, "image": 1}
    documents = score_table.read_metadata(out)
    assert "Chen's set" in documents["data_dictionary"]["risk_incident_oa_24m"]["meaning"]
    assert documents["run"]["derived"]["posteriors"] == "compact-0.3.0"
    assert documents["calibration"]["population"] == "simulated knees"
    assert done.warnings == ()
    if suffix == "csv":
        assert out.read_bytes().startswith(b"\xef\xbb\xbf")
        again = derive(out, tmp_path / "again.parquet", outcomes=[Outcome.SEVERE], months=[12])
        assert again.rows == 4
        assert pl.read_parquet(tmp_path / "again.parquet")["age"].to_list() == [61, 61, 50, None]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_every_outcome_and_horizon_is_made_unless_asked_otherwise(
    tmp_path: Path, knee: Maker, table: Maker
) -> None:
    done = derive(table(knee("A", "L", kl_0m=1)), tmp_path / "out.parquet")
    assert len(done.columns) == len(Outcome) * len(MONTHS)
    assert {"risk_no_0to1_12m", "risk_severe_48m", "risk_any_rise_36m", "risk_two_grades_24m"} <= set(
        done.columns
    )


def test_a_basis_that_is_asked_for_is_the_only_one(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(knee("A", "L", kl_0m=1), knee("A", "R"))
    for basis, expected in {
        "grade": ["grade", None],
        "image+other": ["image+other"] * 2,
        "grade+other": [None] * 2,
    }.items():
        done = derive(
            path, tmp_path / f"{basis}.parquet", outcomes=[Outcome.SEVERE], months=[12], basis=basis
        )
        assert pl.read_parquet(done.out)["risk_severe_12m_basis"].to_list() == expected
        assert any("have no risk" in w for w in done.warnings) == (None in expected)
    with pytest.raises(UsageError, match=r"--basis is 'film'; use auto, grade\+other"):
        derive(path, tmp_path / "x.parquet", basis="film")


def test_a_table_of_another_stack_warns(tmp_path: Path, knee: Maker, table: Maker) -> None:
    done = derive(table(knee("A", "L", stack="own-1.0")), tmp_path / "out.parquet")
    assert "scored by own-1.0 and the equations are of the posteriors of compact-0.3.0" in done.warnings[0]
    done = derive(table(knee("A", "L")), tmp_path / "out.parquet", overwrite=True)
    assert done.warnings == ()


def test_what_cannot_be_derived_is_refused(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(knee("A", "L"))
    with pytest.raises(UsageError, match="severe is known at 12, 24, 36, 48 months, not at 60"):
        derive(path, tmp_path / "x.parquet", outcomes=[Outcome.SEVERE], months=[60])
    with pytest.raises(UsageError, match="the input itself"):
        derive(path, path, overwrite=True)
    (tmp_path / "there.csv").write_text("kept")
    with pytest.raises(UsageError, match="exists"):
        derive(path, tmp_path / "there.csv")
    assert (tmp_path / "there.csv").read_text() == "kept"


def test_participants_have_their_worse_knee_and_either(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(
        knee("A", "L", kl_0m=1, risk_12m=0.2),
        knee("A", "R", kl_0m=4, risk_12m=0.5),
        knee("B", "R", risk_12m=0.3),
        knee("C", "R", status="failed", risk_12m=None),
    )
    out = tmp_path / "people.parquet"
    done = derive(path, out, outcomes=[Outcome.SEVERE], months=[12], level="participant")
    got = pl.read_parquet(out)
    assert got["participant_id"].to_list() == ["A", "B"] and done.rows == 2
    assert got["knees"].to_list() == [2, 1]
    assert got["risk_12m_worse"].to_list() == [0.5, 0.3]
    assert got["risk_12m_worse_side"].to_list() == ["R", "R"]
    assert got["risk_12m_either"].to_list() == pytest.approx([1 - 0.8 * 0.5, 0.3])
    assert got["risk_severe_12m_worse_side"].to_list() == ["L", "R"]
    assert set(score_table.read_metadata(out)["data_dictionary"]) == set(got.columns)


def recalibration(tmp_path: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "kind": "logistic", "column": "risk_12m", "outcome": "any-rise", "months": 12,
        "population": "my cohort", "date": "2025-01-31", "stack": "compact-0.3.0",
        "parameters": {"intercept": 0.5, "slope": 2.0},
        "fitted_on": {"knees": 10, "participants": 5, "events": 3},
    }  # fmt: skip
    path = tmp_path / f"{changes.get('column', 'risk_12m')}.json"
    path.write_text(Recalibration(**(values | changes)).dumps(), "utf-8")
    return path


def test_a_calibration_is_applied_and_named(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(knee("A", "L", risk_12m=0.2, risk_12m_lo=0.1), knee("A", "R", risk_12m=0.0))
    out = tmp_path / "out.parquet"
    files = [
        recalibration(tmp_path),
        recalibration(tmp_path, column="risk_severe_12m", parameters={"intercept": 0.0, "slope": 1.0}),
    ]
    done = derive(path, out, outcomes=[Outcome.SEVERE], months=[12], calibrations=files)
    got = pl.read_parquet(out)
    expected = 1 / (1 + math.exp(-(0.5 + 2 * logit(0.2))))
    assert got["risk_12m"].to_list() == [pytest.approx(expected, abs=1e-6), 0]
    assert got["risk_12m_lo"][0] == pytest.approx(1 / (1 + math.exp(-(0.5 + 2 * logit(0.1)))), abs=1e-6)
    assert got["risk_12m_image"].to_list() == [0.1, 0.1]
    assert done.recalibrated == {"risk_12m": "my cohort", "risk_severe_12m": "my cohort"}
    documents = score_table.read_metadata(out)
    assert documents["run"]["recalibrated"]["risk_12m"]["date"] == "2025-01-31"
    assert "recalibrated (logistic) to: my cohort" in documents["data_dictionary"]["risk_12m"]["meaning"]
    with pytest.raises(UsageError, match="recalibrated already"):
        derive(out, tmp_path / "twice.parquet", calibrations=files[:1])
    with pytest.raises(UsageError, match="a calibration is for risk_severe_12m, and neither"):
        derive(path, tmp_path / "x.parquet", outcomes=[Outcome.NO_0TO1], months=[12], calibrations=files[1:])
    with pytest.raises(UsageError, match="two calibrations are for risk_12m"):
        derive(path, tmp_path / "x.parquet", calibrations=[files[0], files[0]])


def test_bases_are_named_best_first() -> None:
    assert BASES == ("grade+other", "grade", "image+other", "image")


def test_the_command_says_what_the_risks_stand_on(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(knee("A", "L", kl_0m=1), knee("A", "R", stack="compact-0.3.0"))
    arguments = ["derive", str(path), "--outcome", "severe", "--months", "24", "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "a.parquet")])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "what their risks stand on: grade 1, image+other 1" in said
    assert "risk_severe_24m mean" in said and "Chen's set" in said
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "b.csv"), "--json"])
    printed = json.loads(done.stdout)
    assert list(printed["columns"]) == ["risk_severe_24m"] and printed["rows"] == 2
    done = CliRunner().invoke(
        app, ["derive", str(path), "--outcome", "unheard-of", "--out", str(tmp_path / "c.csv")]
    )
    assert done.exit_code == 2


def test_a_calibration_alone_makes_only_what_it_is_for(tmp_path: Path, knee: Maker, table: Maker) -> None:
    file = recalibration(tmp_path, column="risk_severe_24m", outcome="severe", months=24)
    done = derive(table(knee("A", "L", kl_0m=1)), tmp_path / "out.parquet", calibrations=[file])
    assert list(done.columns) == ["risk_severe_24m"] and list(done.recalibrated) == ["risk_severe_24m"]
    done = derive(table(knee("A", "L")), tmp_path / "b.parquet", calibrations=[recalibration(tmp_path)])
    assert list(done.columns) == ["risk_12m"]
