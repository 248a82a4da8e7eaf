"""Figures of a stack: known answers on made-up forecasts."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from kneerisk_train.data.knees import Knees
from kneerisk_train.paper.report import _errors
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.publish import figures
from kneerisk_train.publish.figures import (
    auc_interval,
    landmark_figures,
    one_against_rest_auc,
    within_grade_auc,
)
from sklearn.metrics import roc_auc_score

from benchmarks.accuracy.measure import truth
from kneerisk.method.predict import Forecast
from kneerisk.stack.stack import Stack


def knees(grade: np.ndarray) -> Knees:
    count = len(grade)
    return Knees(
        participant=np.array([f"P{n // 2}" for n in range(count)]),
        side=np.array(["R", "L"] * (count // 2)),
        month=np.zeros(count, np.int32),
        pixels=np.zeros((count, 8, 8), np.uint8),
        grade=grade,
        landmarks=np.zeros((count, 16, 2), np.float32),
        spacing=np.tile(np.float32([0.5, 1.0]), (count, 1)),
    )


def forecast(p_now: np.ndarray, p_12m: np.ndarray) -> Forecast:
    empty = np.zeros((len(p_now), 1), np.float32)
    marks = np.zeros((len(p_now), 16, 2), np.float32)
    # Each row of the table of moves is the later posterior: P(later | now = i) = p_12m.
    moves = np.triu(np.repeat(p_12m[:, None, None], 5, axis=2))
    return Forecast(empty, empty[:, 0], empty, p_now, moves, p_12m[:, None], marks, marks)


def test_the_discrimination_within_grades_does_not_profit_from_grades() -> None:
    """Scores that tell grades apart and nothing else have none of it."""
    rng = np.random.default_rng(0)
    count = 2000
    grade = np.repeat([0, 3], count // 2)
    rose = rng.random(count) < np.where(grade == 3, 0.5, 0.1)
    now = np.eye(5, dtype=np.float32)[grade] * 0.9 + 0.02
    future = knees(np.concatenate([grade, grade + rose]))
    pairs = VisitPairs(np.arange(count), np.arange(count) + count, np.full(count, 12), np.full(count, 12))
    both = np.concatenate([now, now])
    blind = within_grade_auc(forecast(both, both), future, pairs)
    assert blind == pytest.approx(0.5, abs=1e-9)
    seeing = both.copy()
    seeing[:count][rose] = np.eye(5)[(grade + 1)[rose]]
    told = within_grade_auc(forecast(both, seeing), future, pairs)
    assert told == pytest.approx(1.0)
    few = VisitPairs(*(a[:20] for a in (pairs.current, pairs.future, pairs.months, pairs.horizon)))
    assert within_grade_auc(forecast(both, both), future, few) is None


def test_an_interval_holds_its_auc_and_narrows_with_more_participants() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for count in (100, 1600):
        rose = rng.random(count) < 0.3
        score = rose + rng.normal(size=count)
        interval = auc_interval(score, rose, np.array([f"P{n // 2}" for n in range(count)]))
        assert interval.value == pytest.approx(roc_auc_score(rose, score))
        assert interval.low < interval.value < interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0] / 2


def test_whole_participants_are_drawn_for_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as drawing knees one by one, ties and draws without a rise included."""
    monkeypatch.setattr(figures, "_BOOTSTRAPS", 60)
    rng = np.random.default_rng(3)
    rose, score = np.arange(40) % 20 == 3, rng.normal(size=40).round(1)
    who = np.array([f"P{n // 4}" for n in rng.permutation(40)])
    people = np.unique(who)
    drawing = np.random.default_rng(0)
    values = []
    for _ in range(60):
        some = people[drawing.integers(0, len(people), len(people))]
        knees = np.concatenate([np.flatnonzero(who == person) for person in some])
        if rose[knees].any():
            values.append(roc_auc_score(rose[knees], score[knees]))
    assert 30 < len(values) < 60
    found = auc_interval(score, rose, who)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))))


def test_landmarks_are_measured_in_millimetres_of_each_axis() -> None:
    some = knees(np.zeros(2, np.int64))
    found = some.landmarks + np.float32([4.0, 0.0])
    assert landmark_figures(found, some)["landmark_median_mm"] == pytest.approx(2.0)
    found = some.landmarks + np.float32([0.0, 12.0])
    assert landmark_figures(found, some)["landmark_outliers_10_mm"] == 1.0


def test_grades_that_nobody_has_are_left_out_of_the_auc() -> None:
    grade = np.array([0, 0, 1, 1])
    sure = np.eye(5, dtype=np.float32)[grade]
    assert one_against_rest_auc(sure, grade) == 1.0
    assert one_against_rest_auc(sure, np.zeros(4, np.int64)) is None


def test_a_sure_and_right_classifier_has_no_calibration_error() -> None:
    grade = np.array([0, 1, 2, 3, 4] * 10)
    assert _errors(np.eye(5, dtype=np.float32)[grade], grade) == [0.0] * 5
    half = np.full((50, 5), 0.2, np.float32)
    assert _errors(half, np.zeros(50, np.int64)) == pytest.approx([0.8, 0.2, 0.2, 0.2, 0.2])


def test_a_table_is_compared_with_the_truth_of_its_own_knees(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    count = 400
    risk = rng.random(count)
    rose = rng.random(count) < risk
    paths = [f"{n:03}.dcm" for n in range(count)]
    base = {"image_path": paths, "side": ["R"] * count, "participant_id": [f"P{n}" for n in range(count)]}
    read = {"kl_read": [1] * count, "kl_read_12m": 1 + rose, "simulated_risk_12m": risk}
    pl.DataFrame(base | read).write_parquet(tmp_path / "truth.parquet")

    scored = {
        "source_path": paths[:300],
        "side": ["R"] * 300,
        "status": ["ok"] * 300,
        "risk_12m": risk[:300],
        "risk_12m_basis": ["image"] * 300,
        "risk_12m_sum": risk[:300],
        "risk_12m_image": 1 - risk[:300],
    }
    pl.DataFrame(scored).write_parquet(tmp_path / "risks.parquet")
    rows = truth(tmp_path / "risks.parquet", tmp_path, Stack.load("compact"), None)
    found = {row["score"]: row for row in rows}
    assert found["true risk"]["knees"] == 300
    assert found["risk_12m_sum"]["AUC (95 % interval)"] == found["true risk"]["AUC (95 % interval)"]
    assert found["risk_12m_image"]["of the way from 0.5 to the true risk's"] == pytest.approx(-1.0)
    pl.DataFrame({"participant_id": ["P7", "P8"], "split": ["test", "train"]}).write_csv(tmp_path / "s.csv")
    with pytest.raises(SystemExit, match=r"of 1 knees rise"):
        truth(tmp_path / "risks.parquet", tmp_path, Stack.load("compact"), tmp_path / "s.csv")
