from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS
from kneerisk.study.evaluate import evaluate
from kneerisk.study.outcomes import Outcome
from kneerisk.study.results import Evaluation
from kneerisk.study.statistics import baselines
from kneerisk.study.statistics.measure import FEWEST

Maker = Callable[..., Any]
DRAWS = 100


@pytest.fixture(scope="module")
def found(simulated: Any) -> Evaluation:
    return evaluate(simulated.scores, simulated.labels, bootstraps=DRAWS, by=["site"])


def joined(simulated: Any) -> pl.DataFrame:
    labels = pl.read_csv(simulated.labels)
    return pl.read_parquet(simulated.scores).join(labels, on=["participant_id", "side"], suffix="_label")


def test_the_whole_cohort_is_measured_without_the_knees_that_cannot_rise(
    simulated: Any, found: Evaluation
) -> None:
    frame = joined(simulated)
    able = frame.filter(pl.col("kl_0m") < 4)
    event = able["kl_12m"] > able["kl_0m"]
    assert found.excluded == {"at KL 4 already, cannot have the outcome": len(frame) - len(able)}
    assert (found.overall.knees, found.overall.events) == (len(able), event.sum())
    assert found.overall.participants == able["participant_id"].n_unique()
    model = found.overall.scores["model"]
    assert model.auc.value == pytest.approx(roc_auc_score(event, able["risk_12m"]))
    assert model.auc.low < model.auc.value < model.auc.high
    width = model.auc.high - model.auc.low
    assert width == pytest.approx(model.auc_delong.high - model.auc_delong.low, rel=0.4)
    assert model.scaled_brier.value == pytest.approx(
        1 - model.brier.value / (found.overall.prevalence * (1 - found.overall.prevalence))
    )
    assert found.population == "simulated knees" and found.column == "risk_12m"
    assert found.basis == {"grade": len(able)}


def test_true_risks_are_calibrated_and_nothing_is_warned_of(found: Evaluation) -> None:
    model = found.overall.scores["model"]
    assert model.calibration_intercept.low < 0 < model.calibration_intercept.high
    assert model.calibration_slope.low < 1 < model.calibration_slope.high
    assert model.ici.value < 0.02
    assert found.warnings == ()


def test_baselines_stand_beside_the_model(found: Evaluation) -> None:
    assert list(found.overall.scores) == ["model", "baseline KL", "KL + age + sex", "prevalence"]
    assert [d.baseline for d in found.overall.differences] == ["baseline KL", "KL + age + sex"]
    by_grade = found.overall.differences[0]
    scores = found.overall.scores
    assert by_grade.auc.value == pytest.approx(scores["model"].auc.value - scores["baseline KL"].auc.value)
    assert by_grade.auc.low > 0 and by_grade.p_delong < 0.01
    prevalence = scores["prevalence"]
    assert prevalence.auc.value == 0.5
    assert prevalence.average_precision.value == found.overall.prevalence
    assert prevalence.calibration_slope.reason == "every knee has the same risk"
    assert any("no baseline" in note for note in found.notes) is False


def test_a_baseline_by_grade_is_each_grades_share_of_events() -> None:
    grade = np.array([0, 0, 1, 1, 1, 3])
    event = np.array([True, False, True, True, False, False])
    assert baselines.by_grade(grade, event).tolist() == pytest.approx([0.5, 0.5, 2 / 3, 2 / 3, 2 / 3, 0])


def test_a_participant_is_never_predicted_by_a_fit_to_its_own_knees() -> None:
    owner = np.repeat(np.arange(50), 2)
    seen = np.zeros(100, int)
    for train, test in baselines.folds(owner):
        assert set(owner[train]) & set(owner[test]) == set()
        seen[test] += 1
    assert (seen == 1).all()


def test_knees_are_parted_by_what_is_known_of_them(found: Evaluation) -> None:
    families = {g.family for g in found.subgroups}
    assert families == {"baseline KL", "age", "sex", "side", "site", "quality flag", "quality flag dark"}
    for family in families - {"quality flag dark"}:
        parts = [g for g in found.subgroups if g.family == family]
        assert sum(g.knees for g in parts) == found.overall.knees
        assert sum(g.events for g in parts) == found.overall.events
    grade = next(g for g in found.subgroups if g.value == "KL 2")
    assert "baseline KL" not in grade.scores
    assert grade.scores["model"].auc.low < grade.scores["model"].auc.value


def test_too_few_events_and_a_missing_class_give_null_with_their_reason(
    tmp_path: Path, knee: Maker, table: Maker
) -> None:
    n = 60
    rng = np.random.default_rng(0)
    rows = [knee(f"P{i}", "L", kl_0m=1, risk_12m=float(rng.random()), site="AB"[i < 30]) for i in range(n)]
    text = "participant_id,side,kl_0m,kl_12m\n" + "".join(
        f"P{i},L,1,{2 if i >= 30 and i % 2 else 1}\n" for i in range(n)
    )
    (tmp_path / "labels.csv").write_text(text)
    found = evaluate(table(*rows), tmp_path / "labels.csv", bootstraps=20)
    b = next(g for g in found.subgroups if g.value == "B")
    assert b.scores["model"].auc.value is None and b.scores["model"].auc.reason == "no event"
    assert b.scores["model"].brier.value is not None
    assert b.differences[0].auc.reason == "no event" and b.differences[0].p_delong is None
    a = next(g for g in found.subgroups if g.value == "A")
    assert a.scores["model"].auc.value is not None
    assert any("15 events: fewer than 100" in w for w in found.warnings)
    json.dumps(found.to_json(), allow_nan=False)
    text = text.replace("P31,L,1,2", "P31,L,1,1").replace("1,2\n", "1,1\n", 15 - FEWEST)
    (tmp_path / "labels.csv").write_text(text)
    few = evaluate(table(*rows), tmp_path / "labels.csv", bootstraps=20).overall
    assert few.events < FEWEST
    assert (
        few.scores["model"].auc.reason
        == f"{few.events} events among 60 knees: fewer than 10 of a kind tell nothing"
    )


def test_two_knees_are_one_person_in_an_interval(tmp_path: Path, knee: Maker, table: Maker) -> None:
    """The right knee a copy of the left: twice the rows, and no narrower an interval."""
    rng = np.random.default_rng(2)
    n = 400
    risk = rng.random(n).round(4)
    event = rng.random(n) < 0.1 + 0.3 * risk
    widths = []
    for sides in ("L", "LR"):
        rows = [knee(f"P{i}", s, kl_0m=1, risk_12m=float(risk[i])) for i in range(n) for s in sides]
        text = "".join(f"P{i},{s},1,{1 + int(event[i])}\n" for i in range(n) for s in sides)
        (tmp_path / "labels.csv").write_text("participant_id,side,kl_0m,kl_12m\n" + text)
        found = evaluate(table(*rows), tmp_path / "labels.csv", bootstraps=400)
        model = found.overall.scores["model"]
        widths.append([f.high - f.low for f in (model.auc, model.auc_delong, model.calibration_slope)])
    assert widths[1] == pytest.approx(widths[0], rel=1e-3)


def test_risks_of_another_population_raise_a_warning(make_cohort: Maker) -> None:
    off = make_cohort("off", participants=800, slope=2.0, shift=2.5)
    found = evaluate(off.scores, off.labels, bootstraps=0)
    assert any(
        "events are less frequent than they say" in w and "simulated knees" in w for w in found.warnings
    )
    assert any("too extreme" in w for w in found.warnings)
    assert found.overall.scores["model"].auc.low is None
    assert found.decision_curve[0].low is None


def test_decision_curve_and_operating_points(simulated: Any, found: Evaluation) -> None:
    curve = {p.threshold: p for p in found.decision_curve}
    able = joined(simulated).filter(pl.col("kl_0m") < 4)
    event = (able["kl_12m"] > able["kl_0m"]).to_numpy()
    called = (able["risk_12m"] >= 0.1).to_numpy()
    n = len(event)
    benefit = ((called & event).sum() - (called & ~event).sum() / 9) / n
    assert curve[0.1].model == pytest.approx(benefit)
    assert curve[0.1].low < curve[0.1].model < curve[0.1].high
    assert curve[0.1].treat_all == pytest.approx(event.mean() - (1 - event.mean()) / 9)
    assert set(curve[0.1].baselines) == {"baseline KL", "KL + age + sex"}
    asked = evaluate(simulated.scores, simulated.labels, thresholds=[0.2, 0.1], bootstraps=0).operating_points
    assert [p.threshold for p in asked] == [0.1, 0.2]
    assert asked[0].positives == called.sum()
    assert asked[0].sensitivity.value == pytest.approx((called & event).sum() / event.sum())
    assert asked[0].npv.value == pytest.approx((~called & ~event).sum() / (~called).sum())
    assert [p.threshold for p in found.operating_points] == sorted(
        p.threshold for p in found.operating_points
    )


def test_the_image_s_grade_is_held_against_the_reader_s(simulated: Any, found: Evaluation) -> None:
    frame = joined(simulated)
    reader, image = frame["kl_0m"].to_numpy(), frame["kl_now"].to_numpy()
    grades = found.grades
    assert grades is not None and grades.knees == len(frame)
    assert grades.accuracy.value == pytest.approx((reader == image).mean())
    assert grades.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(reader, image))
    assert grades.quadratic_kappa.value == pytest.approx(
        cohen_kappa_score(reader, image, weights="quadratic")
    )
    assert grades.quadratic_kappa.low < grades.quadratic_kappa.value < grades.quadratic_kappa.high
    assert grades.confusion[0][1] == ((reader == 0) & (image == 1)).sum()


def test_either_knee_of_a_participant(tmp_path: Path, knee: Maker, table: Maker) -> None:
    rng = np.random.default_rng(0)
    rows, text = [], "participant_id,side,kl_0m,kl_12m\n"
    risks, events = [], []
    for i in range(60):
        risk, event = rng.random(2).round(3), rng.random(2) < 0.3
        risks.append(1 - (1 - risk[0]) * (1 - risk[1]))
        events.append(event.any())
        for side, r, e in zip("LR", risk, event, strict=True):
            rows.append(knee(f"P{i}", side, kl_0m=1, risk_12m=float(r)))
            text += f"P{i},{side},1,{1 + int(e)}\n"
    (tmp_path / "labels.csv").write_text(text)
    found = evaluate(table(*rows), tmp_path / "labels.csv", level="participant", bootstraps=20)
    assert (found.overall.knees, found.overall.participants, found.overall.events) == (60, 60, sum(events))
    assert found.overall.scores["model"].auc.value == pytest.approx(roc_auc_score(events, risks))


def test_landmarks_are_measured_in_millimetres(
    tmp_path: Path, knee: Maker, table: Maker, simulated: Any
) -> None:
    names = [f"lm_{p}_{a}" for p in LANDMARKS for a in "xy"]
    found = {f"lm_now_{n[3:]}": 100.0 for n in names}
    rows = [
        knee("A", "L", kl_0m=1, px_spacing_mm=0.5, **found),
        knee("A", "R", kl_0m=1, px_spacing_mm=0.2, **{**found, "lm_now_T0_x": 160.0, "lm_now_T0_y": 20.0}),
        knee("B", "R", kl_0m=1, px_spacing_mm=None, **found),
    ]
    marks = pl.DataFrame(
        {
            "participant_id": ["A", "A", "B"],
            "side": ["L", "R", "R"],
            **{n: [103.0] * 3 if n.endswith("_x") else [104.0] * 3 for n in names},
        }
    )
    marks.write_csv(tmp_path / "marks.csv")
    (tmp_path / "labels.csv").write_text("participant_id,side,kl_0m,kl_12m\nA,L,1,2\nA,R,1,1\nB,R,1,1\n")
    got = evaluate(
        table(*rows), tmp_path / "labels.csv", bootstraps=0, landmarks=tmp_path / "marks.csv"
    ).landmarks
    assert got is not None and (got.knees, got.points) == (2, 32)
    far = np.hypot(57, 84) * 0.2
    assert got.mean_mm == pytest.approx((16 * 2.5 + 15 * 1.0 + far) / 32)
    assert got.within_mm == {"1": 15 / 32, "1.5": 15 / 32, "2": 15 / 32, "2.5": 31 / 32}
    assert got.outliers == 1 / 32
    with pytest.raises(UsageError, match="no table of landmarks: it lacks lm_T0_x"):
        evaluate(table(*rows), tmp_path / "labels.csv", bootstraps=0, landmarks=tmp_path / "labels.csv")


def test_what_cannot_be_evaluated_is_refused(simulated: Any) -> None:
    scores, labels = simulated.scores, simulated.labels
    with pytest.raises(UsageError, match=r"no column risk_severe_12m: make it with\n  kneerisk derive"):
        evaluate(scores, labels, outcome=Outcome.SEVERE)
    with pytest.raises(UsageError, match="has no column risk_13m"):
        evaluate(scores, labels, column="risk_13m")
    with pytest.raises(UsageError, match="kl_now is no probability"):
        evaluate(scores, labels, column="kl_now")
    with pytest.raises(UsageError, match="--by ward: neither"):
        evaluate(scores, labels, by=["ward"])
    with pytest.raises(UsageError, match="--threshold 10"):
        evaluate(scores, labels, thresholds=[10])
    other = evaluate(scores, labels, outcome=Outcome.SEVERE, column="risk_12m", bootstraps=0)
    assert other.excluded == {
        "at KL 3 or above already, cannot have the outcome": other.grades.knees - other.overall.knees
    }


def test_figures_are_written_whole_as_json_and_by_row_as_csv(
    tmp_path: Path, simulated: Any, found: Evaluation
) -> None:
    runner = CliRunner()
    arguments = ["evaluate", str(simulated.scores), "--labels", str(simulated.labels), "--bootstrap", "20"]
    done = runner.invoke(app, [*arguments, "--out", str(tmp_path / "figures.json"), "--json"])
    assert done.exit_code == 0, done.output
    printed, written = json.loads(done.stdout), json.loads((tmp_path / "figures.json").read_text())
    assert printed == written
    assert written["overall"]["scores"]["model"]["auc"]["value"] == found.overall.scores["model"].auc.value
    done = runner.invoke(app, [*arguments, "--out", str(tmp_path / "figures.csv")])
    assert done.exit_code == 0
    rows = list(csv.DictReader((tmp_path / "figures.csv").read_text().splitlines()))
    assert {r["family"] for r in rows} >= {"all", "baseline KL", "sex"}
    auc = next(r for r in rows if (r["family"], r["score"], r["measure"]) == ("all", "model", "auc"))
    assert float(auc["value"]) == found.overall.scores["model"].auc.value
    assert f"{found.overall.events} events among {found.overall.knees} knees" in " ".join(done.stdout.split())
    with pytest.raises(UsageError, match="exists"):
        runner.invoke(app, [*arguments, "--out", str(tmp_path / "figures.csv")], catch_exceptions=False)
    with pytest.raises(UsageError, match=r"\.json or \.csv"):
        runner.invoke(app, [*arguments, "--out", str(tmp_path / "figures.txt")], catch_exceptions=False)
