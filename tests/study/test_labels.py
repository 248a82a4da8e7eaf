from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kneerisk.errors import UsageError
from kneerisk.study.labels import join, month_of_visit, observe, read_labels
from kneerisk.study.outcomes import Outcome, at_risk, observed
from kneerisk.study.scores import read_scores

Maker = Callable[..., Any]
WIDE = "participant_id,side,kl_0m,kl_12m,kl_24m,age\n0012,L,0,1,2,61\n0012,R,2,2,3,61\nNA,L,1,,1,55.5\n"


def written(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("outcome", "events"),
    [
        (Outcome.ANY_RISE, {(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (0, 4)}),
        (Outcome.NO_0TO1, {(0, 2), (1, 2), (2, 3), (3, 4), (0, 4)}),
        (Outcome.TWO_GRADES, {(0, 2), (0, 4)}),
        (Outcome.INCIDENT_OA, {(0, 2), (1, 2), (0, 4)}),
        (Outcome.SEVERE, {(2, 3), (0, 4)}),
    ],
)
def test_an_outcome_is_seen_in_two_grades(outcome: Outcome, events: set[tuple[int, int]]) -> None:
    moves = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (0, 4), (2, 1), (1, 1), (3, 3)]
    for start, end in moves:
        can = {"any-rise": 3, "no-0to1": 3, "two-grades": 2, "incident-oa": 1, "severe": 2}[outcome] >= start
        seen = float(observed(outcome, start, end))
        assert (seen == 1) == ((start, end) in events and can)
        assert (seen != seen) == (not can)
        assert bool(at_risk(outcome, start)) == can
    assert str(observed(outcome, [float("nan"), 0, 4], [1, float("nan"), 4])) == "[nan nan nan]"


@pytest.mark.parametrize("kind", ["wide", "long", "parquet", "tsv"])
def test_a_label_table_is_read_long_or_wide(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, WIDE)
    if kind != "wide":
        text = "Participant_ID,Side,visit_month,kl_grade,age\n"
        for who, side, *grades, age in [("0012", "left", 0, 1, 2, 61), ("0012", "R", 2, 2, 3, 61)]:
            text += "".join(f"{who},{side},{m},{k},{age}\n" for m, k in zip((0, 12, 24), grades, strict=True))
        text += "NA,L,0,1,55.5\nNA,L,12,.A: Not Expected,55.5\nNA,L,24,1,55.5\n"
        path = written(tmp_path, text)
    if kind == "tsv":
        path = written(tmp_path, path.read_text().replace(",", "\t"), "labels.tsv")
    if kind == "parquet":
        pl.read_csv(path, infer_schema=False).write_parquet(tmp_path / "labels.parquet")
        path = tmp_path / "labels.parquet"
    labels = read_labels(path)
    assert labels.without_grade == 1
    got = labels.readings.sort("participant_id", "side", "visit_month").rows()
    assert got == [
        ("0012", "L", 0, 0), ("0012", "L", 12, 1), ("0012", "L", 24, 2),
        ("0012", "R", 0, 2), ("0012", "R", 12, 2), ("0012", "R", 24, 3),
        ("NA", "L", 0, 1), ("NA", "L", 24, 1),
    ]  # fmt: skip
    assert labels.attributes.sort("participant_id", "side")["age"].to_list() == [61, 61, 55.5]


def test_ids_that_parquet_holds_as_floats_are_whole(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"participant_id": [9000099.0], "side": ["L"], "kl_0m": [2], "kl_12m": [float("nan")]}
    )
    frame.write_parquet(tmp_path / "labels.parquet")
    labels = read_labels(tmp_path / "labels.parquet")
    assert labels.readings.rows() == [("9000099", "L", 0, 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "participant_id,side,kl_0m\nA,1,0\nB,2,0\nC,L,0\n",
            r"side is not understood in 2 of 3 rows, such as '1' of participant A.*1 is the right",
        ),
        (
            "participant_id,side,kl_0m\nA,L,0\nA,L,1\nB,L,1\n",
            r"more than once: 1, such as participant_id A, side L",
        ),
        ("participant_id,side,visit_month,kl\nA,L,0,1\nA,L,0,1\n", r"more than once: 1, .*visit_month 0"),
        ("participant_id,side,kl_0m\nA,L,7\nA,R,1\n", r"kl is not understood in 1 of 2 rows, such as '7'"),
        ("participant_id,side,visit_month,kl\nA,L,soon,1\n", r"visit_month is not understood in 1 of 1"),
        ("id,side,kl_0m\nA,L,1\n", r"needs participant_id and side"),
        ("participant_id,side,kl_0m\n,L,1\n", r"participant_id is not understood in 1 of 1"),
    ],
)
def test_what_is_not_understood_is_refused_with_counts_and_an_example(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_labels(written(tmp_path, text))


def test_labels_meet_scores_by_participant_and_side(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = table(
        knee("0012", "R", kl_0m=1), knee("NA", "L"), knee("0012", "L"), knee("77", "L", status="refused")
    )
    joined = join(read_scores(path), read_labels(written(tmp_path, WIDE)))
    assert joined.frame["reader_kl"].to_list() == [2, 1, 0]
    assert joined.frame["age"].to_list() == [61, 55.5, 61]
    assert (
        "differs between risks.parquet (kl_0m) and labels.csv for 1 knees, such as 0012 R" in joined.notes[0]
    )
    seen = observe(joined, Outcome.ANY_RISE, 12)
    assert seen.frame.select("participant_id", "side", "event").rows() == [
        ("0012", "R", False),
        ("0012", "L", True),
    ]
    assert seen.excluded == {"not read at 12 months": 1}
    seen = observe(joined, Outcome.INCIDENT_OA, 24)
    assert seen.frame.select("participant_id", "event").rows() == [("NA", False), ("0012", True)]
    assert seen.excluded == {"at KL 2 or above already, cannot have the outcome": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "participant_id,side,kl_0m\n12,L,0\n13,L,1\n",
            "the ids differ, such as 12 in the labels and 0012.*leading zeros",
        ),
        (
            "participant_id,side,kl_0m\nX,L,0\n",
            "the ids differ, such as X in the labels and 0012 in the scores$",
        ),
        ("participant_id,side,kl_0m\n0012,R,0\n", r"on other sides, such as 0012 \(labelled R; scored L\)"),
        (
            "participant_id,side,kl_0m\n0012,L,0\n8,R,1\n9,R,1\n",
            "2 of 3 labelled knees were not scored, such as 8 R",
        ),
    ],
)
def test_what_does_not_join_is_refused_with_counts_and_an_example(
    tmp_path: Path, knee: Maker, table: Maker, text: str, said: str
) -> None:
    scores = read_scores(table(knee("0012", "L"), knee("0014", "L")))
    with pytest.raises(UsageError, match=said):
        join(scores, read_labels(written(tmp_path, text)))


def test_what_does_not_join_may_be_allowed_and_is_said(tmp_path: Path, knee: Maker, table: Maker) -> None:
    scores = read_scores(table(knee("A", "L"), knee("B", "L"), knee(None, "R")))
    labels = read_labels(written(tmp_path, "participant_id,side,kl_0m\nA,L,0\nC,R,1\n"))
    with pytest.raises(UsageError, match=r"1 scored knees of risks\.parquet have no participant_id"):
        join(scores, labels)
    joined = join(scores, labels, allow_unmatched=True)
    assert len(joined.frame) == 3
    assert any("1 of 2 scored knees have no label, such as B L" in note for note in joined.notes)
    assert any("1 of 2 labelled knees were not scored, such as C R" in note for note in joined.notes)


@pytest.mark.parametrize("by", ["kl_0m", "image"])
def test_swapped_sides_are_refused_though_every_knee_joins(
    tmp_path: Path, knee: Maker, table: Maker, by: str
) -> None:
    def row(number: int, side: str) -> dict[str, Any]:
        grade = number % 4 if side == "L" else (number + 1) % 4
        seen = [0.8 if g == grade else 0.05 for g in range(5)]
        return knee(f"P{number}", side, kl_0m=grade) if by == "kl_0m" else knee(f"P{number}", side, p=seen)

    rows = [row(number, side) for number in range(10) for side in "LR"]
    right = "".join(
        f"{r['participant_id']},{r['side']},{r['kl_now' if by == 'image' else 'kl_0m']}\n" for r in rows
    )
    scores = read_scores(table(*rows))
    head = "participant_id,side,kl_0m\n"
    assert join(scores, read_labels(written(tmp_path, head + right))).notes == ()
    swapped = read_labels(written(tmp_path, head + right.translate(str.maketrans("LR", "RL"))))
    with pytest.raises(
        UsageError, match=r"look swapped.* 20 knees have .* and 0 that of their own, such as P0 L"
    ):
        join(scores, swapped)
    assert len(join(scores, swapped, allow_unmatched=True).frame) == 20


def test_a_knee_scored_twice_at_a_visit_is_refused(tmp_path: Path, knee: Maker, table: Maker) -> None:
    scores = read_scores(table(knee("A", "L"), knee("A", "L"), knee("A", "R")))
    with pytest.raises(UsageError, match="more than once: 1, such as participant_id A"):
        join(scores, read_labels(written(tmp_path, "participant_id,side,kl_0m\nA,L,0\n")))


def test_a_visit_says_where_a_knee_starts(tmp_path: Path, knee: Maker, table: Maker) -> None:
    labels = read_labels(written(tmp_path, WIDE))
    scores = read_scores(
        table(knee("0012", "L", visit="00m"), knee("0012", "L", visit="12m"), knee("NA", "L", visit="12m"))
    )
    joined = join(scores, labels, allow_unmatched=True)
    assert joined.frame["start_month"].to_list() == [0, 12, 12]
    assert joined.frame["reader_kl"].to_list() == [0, 1, None]
    seen = observe(joined, Outcome.NO_0TO1, 12)
    assert seen.frame["event"].to_list() == [False, True]
    assert seen.excluded == {"no reader's grade at the start": 1}
    scores = read_scores(table(knee("0012", "L", visit="A"), knee("0012", "L", visit="B")))
    with pytest.raises(UsageError, match=r"2 scored rows .*names tell no month \('A', 'B'\), such as 0012 L"):
        join(scores, labels, allow_unmatched=True)


def test_the_nearest_reading_within_the_window_counts(tmp_path: Path, knee: Maker, table: Maker) -> None:
    text = "participant_id,side,kl_0m,kl_15m,kl_30m\nA,L,0,2,3\n"
    joined = join(read_scores(table(knee("A", "L"))), read_labels(written(tmp_path, text)))
    assert observe(joined, Outcome.ANY_RISE, 12).frame["later_month"].to_list() == [15]
    with pytest.raises(UsageError, match="not read at 24 months: 1"):
        observe(joined, Outcome.ANY_RISE, 24)
    assert observe(joined, Outcome.ANY_RISE, 24, window=6).frame["later_month"].to_list() == [30]
    with pytest.raises(UsageError, match="does not go with a horizon"):
        observe(joined, Outcome.ANY_RISE, 12, window=12)


@pytest.mark.parametrize(
    ("visit", "month"),
    [
        ("12m", 12), ("00m", 0), ("m24", 24), ("12 months", 12), ("Baseline", 0), ("12", 12), ("3", None),
        ("first", None), (None, None),
    ],
)  # fmt: skip
def test_a_visit_is_read_as_months(visit: str | None, month: int | None) -> None:
    assert month_of_visit(visit, {0, 12}) == month


def test_an_earlier_contract_is_read_in_new_terms(tmp_path: Path, knee: Maker, table: Maker) -> None:
    old = [
        knee("A", "L", risk_12m=0.4, risk_12m_calibrated=0.06, risk_12m_given_grade=0.09),
        knee("B", "L", risk_12m=0.3, risk_12m_calibrated=0.05, risk_12m_given_grade=None),
    ]
    scores = read_scores(table(*old))
    got = scores.frame.select("risk_12m", "risk_12m_basis", "risk_12m_image", "risk_12m_sum").rows()
    assert got == [(0.09, "grade", 0.06, 0.4), (0.05, "image", 0.05, 0.3)]
    assert "earlier kneerisk" in scores.notes[0]


def test_a_csv_keeps_ids_as_text_and_numbers_as_numbers(tmp_path: Path, knee: Maker, table: Maker) -> None:
    frame = pl.read_parquet(
        table(knee("0012", "L", site="007", age="61.5"), knee("NA", "R", site="8", age=None))
    )
    frame.with_columns(pl.col("qc_flags").list.join(";")).write_csv(tmp_path / "risks.csv")
    scores = read_scores(tmp_path / "risks.csv").frame
    assert scores["participant_id"].to_list() == ["0012", "NA"]
    assert scores["site"].to_list() == ["007", "8"]
    assert scores["age"].to_list() == [61.5, None]
    assert scores["at_ceiling"].dtype == pl.Boolean and scores["kl_now"].dtype == pl.Int64


def test_what_is_no_score_table_is_refused(tmp_path: Path, knee: Maker, table: Maker) -> None:
    path = written(tmp_path, "participant_id,risk\nA,1\n", "other.csv")
    with pytest.raises(UsageError, match="no table that kneerisk score wrote: it lacks visit"):
        read_scores(path)
    with pytest.raises(UsageError, match="has no scored knee"):
        read_scores(table(knee("A", "L", status="failed")))
