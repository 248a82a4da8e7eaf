"""``kneerisk enrich``: from tables to a list, a curve, and words that say what must be known first."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kneerisk.cli import main
from kneerisk.errors import ExitCode, KneeriskError, UsageError
from kneerisk.method.recalibration import Recalibration
from kneerisk.scoring.outputs import table as tables
from kneerisk.study.alarms import alarms_of
from kneerisk.study.derive import derive
from kneerisk.study.enrichment.enrich import Enrichment, enrich
from kneerisk.study.enrichment.selection import Rule
from kneerisk.study.enrichment.settings import EnrichSettings
from kneerisk.study.outcomes import Outcome
from kneerisk.study.scores import read_scores

Maker = Callable[..., Any]
ALARM = {
    "code": "unlike-the-population",
    "message": "96 % of these knees look unlike the training population",
}


@pytest.fixture
def four(table: Maker, knee: Maker) -> Path:
    """Four people: A with two knees, B with one at the ceiling, C with one refused, D by the image alone."""
    return table(
        knee("A", "L", risk_12m=0.2, kl_0m=1),
        knee("A", "R", risk_12m=0.3, kl_0m=2),
        knee("B", "L", risk_12m=0.4, kl_0m=4),
        knee("B", "R", risk_12m=0.1, kl_0m=0),
        knee("C", "L", status="refused", risk_12m=None, kl_now=None),
        knee("C", "R", risk_12m=0.2, kl_0m=3),
        knee("D", "R", risk_12m=0.5, p=(0.0, 0.0, 0.0, 0.0, 1.0)),
    )


def run(path: Path, **settings: Any) -> Enrichment:
    return enrich(EnrichSettings(path, bootstrap=settings.pop("bootstrap", 50), **settings))


def with_alarm(path: Path, alarms: list[Any], place: str = "run") -> Path:
    """The same table, its run having raised alarms."""
    documents = {k: v for k, v in pl.read_parquet_metadata(path).items() if k.startswith("kneerisk.")}
    if place == "run":
        documents["kneerisk.run"] = json.dumps({"alarms": alarms})
    else:
        documents["kneerisk.alarms"] = json.dumps(alarms)
    pl.read_parquet(path).write_parquet(path, metadata=documents)
    return path


def test_knees_at_the_ceiling_and_refused_ones_are_left_out_and_counted(four: Path) -> None:
    found = run(four)
    assert found.candidates == 4
    assert found.left_out == {
        "refused or failed": 1,
        "at the ceiling: of a grade that cannot have the outcome": 2,  # B's by the reader, D's by the image
    }
    assert found.nobody_enriched.event_rate.value == pytest.approx((0.2 + 0.3 + 0.1 + 0.2) / 4)
    assert any("1 participants bring both knees" in note for note in found.notes)


def test_one_knee_of_each_is_the_one_at_the_higher_risk(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "selected.csv"
    found = run(four, one_knee=True, rule=Rule("top", 1), out=out)
    assert (found.unit, found.candidates, found.participants) == ("participants", 3, 3)
    assert found.left_out["the participant's other knee is at the higher risk"] == 1
    assert found.chosen is not None and found.chosen.threshold == 0.3
    listed = pl.read_csv(out, infer_schema=False)
    assert listed.select("rank", "participant_id", "side").rows() == [("1", "A", "R")]
    beside = json.loads(tables.metadata_beside(out).read_text("utf-8"))
    assert beside["kneerisk.enrichment"]["unit"] == "participants"
    assert "highest risk" in beside["kneerisk.data_dictionary"]["rank"]["meaning"]
    assert not any("bring both knees" in note for note in found.notes)


def test_those_who_tie_with_the_last_are_selected_too_and_it_says_so(four: Path, tmp_path: Path) -> None:
    out = tmp_path / "selected.parquet"
    found = run(four, rule=Rule("top", 2), out=out)
    listed = pl.read_parquet(out)
    assert listed.select("rank", "participant_id", "side").rows() == [
        (1, "A", "R"), (2, "A", "L"), (2, "C", "R")
    ]  # fmt: skip
    assert "3 are selected, not 2: the others tie with the last one" in found.notes
    assert json.loads(pl.read_parquet_metadata(out)["kneerisk.enrichment"])["chosen"]["selected"] == 3


def labels_of(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("participant_id,side,kl_0m,kl_12m\n" + text, "utf-8")
    return path


def test_labels_tell_the_outcome_and_the_grade_at_the_start(four: Path, tmp_path: Path) -> None:
    """A L rose, A R did not, B R is at the ceiling by the labels, C R was not read again."""
    labels = labels_of(tmp_path, "A,L,1,2\nA,R,2,2\nB,R,4,4\nC,R,3,\n")
    found = run(four, labels=labels, rule=Rule("threshold", 0.2))
    assert found.basis == "observed"
    assert found.candidates == 3
    assert found.chosen is not None
    assert (found.chosen.selected, found.chosen.followed, found.chosen.events) == (3, 2, 1)
    assert found.chosen.event_rate.value == pytest.approx(0.5)
    assert found.chosen.predicted_rate.value == pytest.approx(0.25)
    assert any("the outcome of 1 of 3 candidates is not known" in note for note in found.notes)


def test_labelled_knees_that_were_not_scored_are_refused_unless_that_is_meant(
    four: Path, tmp_path: Path
) -> None:
    labels = labels_of(tmp_path, "A,L,1,2\nZ,L,1,2\n")
    with pytest.raises(UsageError, match="1 of 2 labelled knees were not scored, such as Z L"):
        run(four, labels=labels)
    assert run(four, labels=labels, allow_unmatched=True).basis == "observed"
    with pytest.raises(UsageError, match="--allow-unmatched is about --labels"):
        run(four, allow_unmatched=True)


def test_the_column_says_what_it_is_a_risk_of(table: Maker, knee: Maker) -> None:
    path = table(
        knee("A", "L", risk_incident_oa_24m=0.2, mine=0.3, kl_0m=0),
        knee("B", "L", risk_incident_oa_24m=0.0, mine=0.1, kl_0m=2),
    )
    found = run(path, risk="risk_incident_oa_24m")
    assert (found.outcome, found.months, found.candidates) == (Outcome.INCIDENT_OA, 24, 1)
    with pytest.raises(UsageError, match="add --outcome and --months"):
        run(path, risk="mine")
    assert run(path, risk="mine", outcome=Outcome.ANY_RISE, months=12).candidates == 2
    with pytest.raises(UsageError, match="--outcome severe, but risk_incident_oa_24m is the risk of"):
        run(path, risk="risk_incident_oa_24m", outcome=Outcome.SEVERE)
    with pytest.raises(UsageError, match="--months 12, but risk_incident_oa_24m is the risk of 24"):
        run(path, risk="risk_incident_oa_24m", months=12)
    with pytest.raises(UsageError, match="has no column risk_severe_12m of numbers"):
        run(path, risk="risk_severe_12m")


def test_without_labels_it_says_that_the_rates_are_assumed_and_for_whom(four: Path) -> None:
    (note,) = [note for note in run(four).notes if "assumed" in note]
    assert "simulated knees" in note


@pytest.mark.parametrize("place", ["run", "alarms"])
def test_assumed_rates_are_refused_where_the_run_raised_an_alarm(
    place: str, four: Path, tmp_path: Path
) -> None:
    path = with_alarm(four, [ALARM], place)
    with pytest.raises(KneeriskError, match="96 % of these knees look unlike") as refused:
        run(path)
    assert refused.value.exit_code == ExitCode.FATAL
    assert "--force" in str(refused.value)
    assert [alarm.code for alarm in run(path, force=True).alarms] == ["unlike-the-population"]
    observed = run(path, labels=labels_of(tmp_path, "A,L,1,2\nA,R,2,2\nB,R,0,0\n"))
    assert [alarm.message for alarm in observed.alarms] == [ALARM["message"]]


def test_a_recalibration_to_knees_that_raised_the_alarm_too_answers_it(four: Path, tmp_path: Path) -> None:
    """Each alarm stays in the table; what the fitting knees had not raised is refused as before."""
    path = with_alarm(four, [ALARM])
    blank: dict[str, Any] = {"stack": None, "date": "2025-01-31", "outcome": "any-rise", "months": 12}
    for name, raised in (("elsewhere", ()), ("here", (ALARM["code"],))):
        mine = Recalibration(
            "logistic", "risk_12m", population=name, fitted_on={}, alarms=raised,
            parameters={"intercept": 0.5, "slope": 1.0}, **blank,
        )  # fmt: skip
        (tmp_path / f"{name}.json").write_text(mine.dumps(), "utf-8")
        derive(path, tmp_path / f"{name}.parquet", calibrations=[tmp_path / f"{name}.json"])
    with pytest.raises(KneeriskError, match="96 % of these knees look unlike"):
        run(tmp_path / "elsewhere.parquet")
    found = run(tmp_path / "here.parquet")
    assert (found.alarms, found.population) == ((), "here")
    assert any("calibrated to here" in note for note in found.notes)
    assert [alarm.message for alarm in alarms_of(read_scores(tmp_path / "here.parquet").documents)] == [
        ALARM["message"]
    ]


def test_alarms_of_earlier_versions_are_sentences(four: Path) -> None:
    with pytest.raises(KneeriskError, match="all the same risk"):
        run(with_alarm(four, ["all the same risk"]))


def test_a_score_that_is_no_probability_needs_labels(
    four: Path, table: Maker, knee: Maker, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="risk_12m_sum is a score and no probability"):
        run(four, risk="risk_12m_sum", force=True)
    logit = table(knee("A", "L", mine=-2.0), knee("B", "L", mine=0.3), name="logit.parquet")
    with pytest.raises(UsageError, match="mine is a score and no probability"):
        run(logit, risk="mine", outcome=Outcome.ANY_RISE, months=12)
    found = run(four, risk="risk_12m_sum", labels=labels_of(tmp_path, "A,L,1,2\nA,R,2,2\nB,R,0,0\n"))
    assert found.curve[0].predicted_rate.value is None


def test_several_visits_must_be_chosen_from(table: Maker, knee: Maker) -> None:
    path = table(
        knee("A", "L", visit="0m", risk_12m=0.2),
        knee("A", "L", visit="12m", risk_12m=0.4),
        knee("B", "L", visit="0m"),
    )
    with pytest.raises(
        UsageError, match=r"such as A L at 0m, 12m: a trial screens once. Choose with --visit"
    ):
        run(path)
    found = run(path, visit="12m")
    assert (found.candidates, found.nobody_enriched.event_rate.value) == (1, pytest.approx(0.4))
    with pytest.raises(UsageError, match="has no visit 24m; it has 0m, 12m"):
        run(path, visit="24m")


def test_knees_without_a_name_or_scored_twice_are_refused(table: Maker, knee: Maker) -> None:
    with pytest.raises(UsageError, match=r"2 scored knees of risks.parquet have no participant_id"):
        run(table(knee(None, "L"), knee(None, "R"), knee("A", "L")))
    with pytest.raises(UsageError, match="scored more than once, such as A L 2 times"):
        run(table(knee("A", "L"), knee("A", "L"), knee("A", "R")))


def test_nobody_left_is_an_error_with_the_counts(table: Maker, knee: Maker) -> None:
    with pytest.raises(KneeriskError, match="at the ceiling: of a grade that cannot have the outcome: 2"):
        run(table(knee("A", "L", kl_0m=4), knee("B", "L", kl_0m=4)))
    with pytest.raises(UsageError, match=r"at or above 0\.9"):
        run(table(knee("A", "L")), rule=Rule("threshold", 0.9))


def simulated(folder: Path, knee: Maker, table: Maker, scale: float = 1.0) -> tuple[Path, Path]:
    """2,000 knees whose risk is known; what the table says of it is ``scale`` times too much."""
    rng = np.random.default_rng(3)
    rows, labels = [], []
    for number in range(1000):
        liability = rng.normal()
        for side in "LR":
            risk = float(1 / (1 + np.exp(2.2 - 0.9 * liability - 0.4 * rng.normal())))
            rose = int(rng.random() < risk)
            grade = int(rng.integers(0, 4))
            rows.append(knee(f"{number:04d}", side, kl_0m=grade, risk_12m=min(1.0, risk * scale)))
            labels.append(f"{number:04d},{side},{grade},{grade + rose}\n")
    return table(*rows), labels_of(folder, "".join(labels))


def test_it_says_so_where_the_risks_promised_another_rate_than_came(
    knee: Maker, table: Maker, tmp_path: Path
) -> None:
    path, labels = simulated(tmp_path, knee, table)
    right = run(path, labels=labels, rule=Rule("top-fraction", 0.3), bootstrap=300)
    assert right.chosen is not None and right.chosen.agrees is True
    assert not any("promised" in note for note in right.notes)
    path, labels = simulated(tmp_path, knee, table, scale=3)
    wrong = run(path, labels=labels, rule=Rule("top-fraction", 0.3), bootstrap=300)
    assert wrong.chosen is not None and wrong.chosen.agrees is False
    (note,) = [note for note in wrong.notes if "promised" in note]
    assert "kneerisk calibrate" in note
    assert wrong.to_json()["chosen"]["predicted_within_interval"] is False


def test_the_curve_is_written_with_its_dictionary(knee: Maker, table: Maker, tmp_path: Path) -> None:
    path, labels = simulated(tmp_path, knee, table)
    out = tmp_path / "curve.csv"
    found = run(path, labels=labels, curve=out)
    curve = pl.read_csv(out)
    assert curve.height == len(found.curve) + 1
    assert curve["threshold"][0] is None and curve["selected"][0] == found.candidates
    assert (curve["event_rate_lo"] <= curve["event_rate"]).all()
    rates = curve["event_rate"].to_list()
    assert rates[-5] > 2 * rates[0]
    meanings = json.loads(tables.metadata_beside(out).read_text("utf-8"))["kneerisk.data_dictionary"]
    assert set(curve.columns) == set(meanings)


def test_break_even_is_where_both_trials_cost_the_same(knee: Maker, table: Maker, tmp_path: Path) -> None:
    from kneerisk.study.enrichment.sample_size import Trial

    path, labels = simulated(tmp_path, knee, table)
    rule = Rule("top-fraction", 0.3)
    ratio = run(path, labels=labels, rule=rule).break_even
    assert ratio is not None and ratio > 1
    even = run(path, labels=labels, rule=rule, trial=Trial(cost_screen=1, cost_enrolled=ratio))
    assert even.chosen is not None
    assert even.chosen.cost.value == pytest.approx(even.nobody_enriched.cost.value)
    everybody = run(path, labels=labels, rule=Rule("top-fraction", 1.0))
    assert everybody.break_even is None


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_the_command_shows_the_trial_beside_no_enrichment(
    cli: Callable[..., int], knee: Maker, table: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels = simulated(tmp_path, knee, table)
    out = tmp_path / "selected.csv"
    given = ("--labels", labels, "--top-fraction", "0.2", "--cost-screen", "300", "--cost-enrolled", "12000")
    assert cli("enrich", path, *given, "--bootstrap", "50", "--out", out) == ExitCode.OK
    shown = capsys.readouterr().out
    for words in (
        "event rate, observed",
        "no enrichment",
        "sample size an arm",
        "no medical device",
        str(out),
    ):
        assert words in shown.replace("\n", "")
    assert cli("enrich", path, *given, "--out", out) == ExitCode.USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert cli("enrich", path, *given, "--bootstrap", "0", "--json") == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["chosen"]["share"] == pytest.approx(0.2, abs=0.001)
    assert document["break_even_cost_ratio"] > 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--top", "2", "--threshold", "0.1"), "--threshold and --top say whom to enrol"),
        (("--screen", "100"), "--screen says how many --recruit"),
        (("--out", "list.csv"), "nothing says whom to select"),
        (("--top", "1", "--out", "list.xlsx"), ".parquet or .csv"),
        (("--plot", "curve.pdf"), ".svg or .png"),
        (("--outcome", "death"), "any-rise"),
        (("--effect", "2"), "--effect lies between"),
        (("--confidence", "95"), "--confidence lies between"),
        (("--bootstrap", "-1"), "--bootstrap"),
    ],
)
def test_a_wrong_option_is_2_and_says_what_is_right(
    arguments: tuple[str, ...],
    words: str,
    cli: Callable[..., int],
    four: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli("enrich", four, *arguments) == ExitCode.USAGE
    assert words in " ".join(capsys.readouterr().err.split())


def test_an_output_never_replaces_an_input(four: Path, cli: Callable[..., int]) -> None:
    before = four.read_bytes()
    assert cli("enrich", four, "--top", "1", "--out", four, "--overwrite") == ExitCode.USAGE
    assert four.read_bytes() == before
