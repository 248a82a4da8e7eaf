"""Risks against what happened: discrimination, calibration, net benefit; overall and by group."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.study.extras import needs
from kneerisk.study.labels import WINDOW_MONTHS, Joined, Observed, join, observe, read_labels
from kneerisk.study.outcomes import Outcome, column_of
from kneerisk.study.results import Evaluation, Figure, Group, NetBenefit, OperatingPoint
from kneerisk.study.scores import Scores, read_scores
from kneerisk.study.statistics import agreement, baselines, bootstrap, decisions
from kneerisk.study.statistics.grades import grade_agreement
from kneerisk.study.statistics.groups import families
from kneerisk.study.statistics.landmarks import landmark_error
from kneerisk.study.statistics.measure import ALL, MODEL, Knees, Measure

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[np.float64]

_CURVE = tuple(round(0.005 * step, 3) for step in range(1, 101))
"""Thresholds of the decision curve: 0.005 to 0.5."""


def evaluate(
    path: Path,
    labels: Path,
    *,
    outcome: Outcome = Outcome.ANY_RISE,
    months: int = 12,
    column: str | None = None,
    thresholds: Sequence[float] = (),
    by: Sequence[str] = (),
    level: str = "knee",
    window: int = WINDOW_MONTHS,
    landmarks: Path | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    allow_unmatched: bool = False,
) -> Evaluation:
    """Evaluate a column of risks.

    Args:
        path: the score table, of ``score`` or ``derive``.
        labels: readers' grades over time (:func:`kneerisk.study.readings.label_table.read_labels`).
        outcome: what is to happen.
        months: by when.
        column: the risk; by default the one that ``derive`` makes for outcome and horizon, else ``risk_12m``
            for any rise within 12 months.
        thresholds: risks from which a knee is called positive; by default the events' share, its half and
            its double.
        by: further columns to part the knees by.
        level: ``knee``, or ``participant``: whether either knee had the outcome, by 1 - Π(1 - risk).
        window: the nearest reading within so many months of the horizon counts.
        landmarks: marked landmarks, to measure the image's against.
        bootstraps: draws of participants; 0 leaves intervals out.
        seed: of the draws.
        allow_unmatched: go on where labels and scores do not wholly join.

    Raises:
        UsageError: the tables do not join, the column is not there, or no outcome is known.
    """
    needs("scikit-learn", "scipy", "statsmodels")
    scores = read_scores(path, landmarks=landmarks is not None)
    joined = join(scores, read_labels(labels), allow_unmatched=allow_unmatched)
    found = evaluate_joined(
        scores,
        joined,
        labels=labels.name,
        outcome=outcome,
        months=months,
        column=column,
        thresholds=thresholds,
        by=by,
        level=level,
        window=window,
        bootstraps=bootstraps,
        seed=seed,
    )
    if landmarks is None:
        return found
    return replace(found, landmarks=landmark_error(scores.frame, landmarks))


def evaluate_joined(
    scores: Scores,
    joined: Joined,
    *,
    labels: str,
    outcome: Outcome,
    months: int,
    column: str | None = None,
    thresholds: Sequence[float] = (),
    by: Sequence[str] = (),
    level: str = "knee",
    window: int = WINDOW_MONTHS,
    bootstraps: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """:func:`evaluate`, of tables that are read and joined already."""
    import polars as pl

    name = risk_column(scores, outcome, months, column)
    seen = observe(joined, outcome, months, window=window)
    frame, excluded = with_risk(seen, name)
    basis = _basis(frame, name)
    if level == "participant":
        frame = _by_participant(frame, name)
    whom = frame["participant_id"].cast(pl.Categorical).to_physical().to_numpy().astype(np.int64)
    people, owner = np.unique(whom, return_inverse=True)
    event = frame["event"].to_numpy().astype(bool)
    risk = frame[name].to_numpy().astype(np.float64)
    grade = frame["reader_kl"].to_numpy().astype(np.int64)
    told: dict[str, Array] = {MODEL: risk, baselines.GRADE: baselines.by_grade(grade, event)}
    notes = list(joined.notes)
    partial: dict[str, npt.NDArray[np.bool_]] = {}
    columns = " + ".join(baselines.clinical_columns(frame))
    name_of_clinical = f"KL + {columns}"
    clinical = baselines.clinical(frame, grade, event, owner)
    if clinical is not None:
        told[name_of_clinical], known = clinical
        if not known.all():
            partial[name_of_clinical] = known
            count = int(known.sum())
            notes.append(f"{name_of_clinical} is known of {count} knees; it is measured on these alone")
    elif columns:
        notes.append(f"no baseline of KL + {columns}: too few events, or the columns tell nothing apart")
    else:
        notes.append("no baseline of KL + age, sex, BMI: neither table has these columns")
    parted, said = families(frame, by)
    notes += said
    measure = Measure(Knees(told, event, owner, len(people), partial))
    measure.add(ALL, ["all"], np.zeros(len(event), dtype=np.int64))
    for family, values, place in parted:
        measure.add(family, values, place)
    points = _thresholds(thresholds, float(event.mean()))
    curve = measure.at_thresholds("curve", _CURVE, decisions.net_benefits_of(_CURVE))
    at = measure.at_thresholds("points", points, decisions.operating_of)
    measure.draw(bootstraps, seed)
    # Sorting and linear algebra let go of the interpreter: a second thread pays, more only take memory.
    with ThreadPoolExecutor(2) as pool:
        told_of = list(pool.map(measure.groups, [ALL, *(family for family, _, _ in parted)]))
    overall = told_of[0][0]
    return Evaluation(
        outcome=outcome.value,
        outcome_words=outcome.words,
        months=months,
        column=name,
        level=level,
        basis=basis,
        source=scores.path.name,
        labels=labels,
        stack=scores.stack,
        population=scores.population_of(name),
        excluded=excluded,
        notes=tuple(notes),
        warnings=(*scores.notes, *_warnings(overall, scores.population_of(name))),
        bootstraps=bootstraps,
        seed=seed,
        overall=overall,
        subgroups=tuple(group for groups in told_of[1:] for group in groups),
        calibration_curve=agreement.reliability(risk, event),
        decision_curve=_decision_curve(curve, measure),
        operating_points=_operating_points(at, points, risk, measure.drawn("points")),
        grades=grade_agreement(joined.frame, bootstraps, seed),
    )


def risk_column(scores: Scores, outcome: Outcome, months: int, column: str | None) -> str:
    """The column of a table that tells an outcome; UsageError with the command that makes it."""
    names = scores.frame.columns
    if column is not None:
        if column not in names:
            raise UsageError(f"{scores.path.name} has no column {column}")
        return column
    derived = column_of(outcome, months)
    if derived in names:
        return derived
    if outcome is Outcome.ANY_RISE and months == 12:
        return "risk_12m"
    raise UsageError(
        f"{scores.path.name} has no column {derived}: make it with\n  kneerisk derive {scores.path} "
        f"--outcome {outcome.value} --months {months} --out derived.parquet\nor name a column with --column"
    )


def with_risk(seen: Observed, name: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """The knees whose outcome and risk are known; and how many are not, by why."""
    import polars as pl

    frame = seen.frame.with_columns(pl.col(name).cast(pl.Float64))
    kept = frame.filter(pl.col(name).is_not_null() & pl.col(name).is_not_nan())
    excluded = dict(seen.excluded)
    if len(kept) < len(frame):
        excluded[f"no {name}"] = len(frame) - len(kept)
    if kept.is_empty():
        raise UsageError(f"no knee with a known outcome has a {name}")
    values = kept[name]
    if not values.is_between(0, 1).all():
        raise UsageError(f"{name} is no probability: it leaves 0 to 1")
    return kept, excluded


def _by_participant(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """Either knee of a participant at a visit; the other columns are those of the knee of higher risk."""
    import polars as pl

    keys = ["participant_id", "visit"]
    people = frame.group_by(keys, maintain_order=True).agg(
        (1 - (1 - pl.col(name)).product()).alias(name),
        pl.col("event").any(),
        pl.col("reader_kl").max(),
        pl.exclude(*keys, name, "event", "reader_kl").sort_by(name, descending=True).first(),
    )
    return people.drop("side")


def _basis(frame: pl.DataFrame, name: str) -> dict[str, int]:
    column = f"{name}_basis"
    if column not in frame.columns:
        return {}
    counted = frame[column].fill_null("unknown").value_counts(sort=True)
    return {str(word): int(count) for word, count in counted.rows()}


def _thresholds(asked: Sequence[float], prevalence: float) -> tuple[float, ...]:
    for threshold in asked:
        if not 0 < threshold < 1:
            raise UsageError(f"--threshold {threshold}: a risk lies between 0 and 1")
    usual = (prevalence / 2, prevalence, min(2 * prevalence, (1 + prevalence) / 2))
    return tuple(sorted({round(t, 4) for t in (asked or usual) if 0 < round(t, 4) < 1}))


def _decision_curve(model: Array, measure: Measure) -> tuple[NetBenefit, ...]:
    knees = measure.knees
    share = float(knees.event.mean())
    replicates = measure.drawn("curve")
    others = {
        name: _exact_curve(score, knees.event)
        for name, score in knees.scores.items()
        if name != MODEL and name not in knees.partial
    }
    points = []
    for index, threshold in enumerate(_CURVE):
        figure = Figure(float(model[index]))
        if replicates is not None:
            figure = bootstrap.interval(float(model[index]), replicates[:, index])
        points.append(
            NetBenefit(
                threshold,
                float(model[index]),
                share - (1 - share) * threshold / (1 - threshold),
                {name: float(curve[index]) for name, curve in others.items()},
                figure.low,
                figure.high,
            )
        )
    return tuple(points)


def _exact_curve(score: Array, event: npt.NDArray[np.bool_]) -> Array:
    codes = decisions.codes_by_threshold(score, _CURVE)
    bins = len(_CURVE) + 1
    without = np.bincount(codes[~event], minlength=bins)[:, None]
    with_event = np.bincount(codes[event], minlength=bins)[:, None]
    return np.asarray(decisions.net_benefits_of(_CURVE)(without, with_event)[0])


def _operating_points(
    at: Array, thresholds: Sequence[float], risk: Array, replicates: Array | None
) -> tuple[OperatingPoint, ...]:

    def figure(point: int, measure: int) -> Figure:
        value = float(at[point, measure])
        if np.isnan(value):
            return Figure.none("no knee to take the share of")
        if replicates is None:
            return Figure(value)
        return bootstrap.interval(value, replicates[:, point, measure])

    return tuple(
        OperatingPoint(
            threshold, int((risk >= threshold).sum()), *(figure(point, measure) for measure in range(4))
        )
        for point, threshold in enumerate(thresholds)
    )


def _warnings(overall: Group, population: str | None) -> list[str]:
    """What a reader must not overlook."""
    found = []
    model = overall.scores[MODEL]
    if overall.events < 100:
        found.append(
            f"{overall.events} events: fewer than 100 leave every figure here unsure; look at the intervals"
        )
    off = _off(model.calibration_intercept, 0.0)
    if off is not None:
        word = "more" if off > 0 else "less"
        found.append(
            f"the risks are not those of this cohort: events are {word} frequent than they say. They are "
            f"calibrated to: {population or 'a population that the table does not name'}. Recalibrate with "
            "kneerisk calibrate before a risk is read as a chance"
        )
    if model.calibration_slope.high is not None and model.calibration_slope.high < 1:
        found.append("the risks are too extreme for this cohort (calibration slope below 1)")
    return found


def _off(figure: Figure, target: float) -> float | None:
    if figure.value is None or figure.low is None or figure.high is None:
        return None
    return None if figure.low <= target <= figure.high else figure.value - target
