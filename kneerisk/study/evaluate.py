"""Risks against what happened: discrimination, calibration, net benefit; overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.study import agreement, baselines, bootstrap, decisions, discrimination
from kneerisk.study.extras import needs
from kneerisk.study.grades import grade_agreement
from kneerisk.study.groups import families
from kneerisk.study.labels import WINDOW_MONTHS, Joined, Observed, join, observe, read_labels
from kneerisk.study.landmarks import landmark_error
from kneerisk.study.outcomes import Outcome, column_of
from kneerisk.study.results import (
    Difference,
    Evaluation,
    Figure,
    Group,
    NetBenefit,
    OperatingPoint,
    ScoreFigures,
)
from kneerisk.study.scores import Scores, read_scores

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[np.float64]

FEWEST = 10
"""Events, and knees without one, below which no discrimination or calibration is told."""
MODEL = "model"
_CURVE = tuple(round(0.005 * step, 3) for step in range(1, 101))
"""Thresholds of the decision curve: 0.005 to 0.5."""


@dataclass(frozen=True)
class _Knees:
    """What the figures of a group are made from."""

    scores: Mapping[str, Array]
    """``model`` and the baselines that tell knees apart, [N] each."""
    event: npt.NDArray[np.bool_]
    owner: npt.NDArray[np.int64]
    """The participant's number, 0..people - 1 over the whole cohort."""
    people: int

    def take(self, inside: npt.NDArray[Any]) -> _Knees:
        return replace(
            self,
            scores={name: score[inside] for name, score in self.scores.items()},
            event=self.event[inside],
            owner=self.owner[inside],
        )


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
        labels: readers' grades over time (:func:`kneerisk.study.label_table.read_labels`).
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
    complete: npt.NDArray[np.bool_] | None = None
    clinical = baselines.clinical(frame, grade, event, owner)
    columns = " + ".join(baselines.clinical_columns(frame))
    clinical_name = f"KL + {columns}"
    if clinical is not None:
        told[clinical_name], complete = clinical
        if not complete.all():
            notes.append(
                f"{clinical_name} is known of {int(complete.sum())} knees; it is measured on these alone"
            )
    elif columns:
        notes.append(f"no baseline of KL + {columns}: too few events, or the columns tell nothing apart")
    else:
        notes.append("no baseline of KL + age, sex, BMI: neither table has these columns")
    knees = _Knees(told, event, owner, len(people))
    parted, said = families(frame, by)
    notes += said
    plan = _Plan(knees, clinical_name if clinical is not None else None, complete)
    everyone = np.arange(len(event))
    keys = [("all", "all")]
    plan.add(keys[0], everyone)
    for family, values, place in parted:
        for number, value in enumerate(values):
            inside = np.flatnonzero(place == number)
            if len(inside):
                keys.append((family, value))
                plan.add(keys[-1], inside)
    points = _thresholds(thresholds, float(event.mean()))
    curve = plan.at_thresholds("curve", risk, _CURVE, decisions.net_benefits_of(_CURVE))
    at = plan.at_thresholds("points", risk, points, decisions.operating_of)
    draws = plan.run(bootstraps, seed)
    groups = [plan.group(key, draws) for key in keys]
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
        population=_population(scores, name),
        excluded=excluded,
        notes=tuple(notes),
        warnings=(*scores.notes, *_warnings(groups[0], _population(scores, name))),
        bootstraps=bootstraps,
        seed=seed,
        overall=groups[0],
        subgroups=tuple(groups[1:]),
        calibration_curve=agreement.reliability(risk, event),
        decision_curve=_decision_curve(curve, knees, draws),
        operating_points=_operating_points(at, points, risk, draws),
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


class _Plan:
    """Groups gathered first, so that all of them go through the same draws in one pass."""

    def __init__(self, knees: _Knees, clinical: str | None, complete: npt.NDArray[np.bool_] | None) -> None:
        self.knees = knees
        self._clinical, self._complete = clinical, complete
        self._jobs: dict[Any, tuple[bootstrap.Counts, Mapping[str, bootstrap.Statistic]]] = {}
        self._groups: dict[tuple[str, str], tuple[_Knees, dict[str, _Knees]]] = {}
        self._codes = {name: bootstrap.codes_of(score) for name, score in knees.scores.items()}
        self._means = {name: _means(score, *self._codes[name]) for name, score in knees.scores.items()}

    def add(self, key: tuple[str, str], inside: npt.NDArray[np.int64]) -> None:
        """One group of knees."""
        own = self.knees.take(inside)
        of_score: dict[str, _Knees] = {}
        for name in self.knees.scores:
            if name == baselines.GRADE and key[0] == baselines.GRADE:
                continue  # one grade tells no two of its knees apart
            places = inside
            if name == self._clinical and self._complete is not None:
                places = inside[self._complete[inside]]
            members = self.knees.take(places) if len(places) < len(inside) else own
            of_score[name] = members
            self._count(key, name, name, places)
            if name != MODEL and len(places) < len(inside):
                self._count(key, MODEL, f"{MODEL} beside {name}", places)
        self._groups[key] = own, of_score

    def _count(self, key: tuple[str, str], score: str, name: str, places: npt.NDArray[np.int64]) -> None:
        codes, _ = self._codes[score]
        event, owner = self.knees.event[places], self.knees.owner[places]
        if min(event.sum(), (~event).sum()) < FEWEST:
            return
        values, own = np.unique(codes[places], return_inverse=True)
        counts = bootstrap.Counts.of(own, event, owner, self.knees.people, len(values))
        statistics: dict[str, bootstrap.Statistic] = {"auc": bootstrap.auc_of}
        if score == name:
            statistics["average_precision"] = bootstrap.average_precision_of
            statistics["brier"] = bootstrap.brier_of(self._means[score][values])
        self._jobs[key, name] = counts, statistics

    def at_thresholds(
        self, name: str, risk: Array, thresholds: Sequence[float], statistic: bootstrap.Statistic
    ) -> Array:
        """Counts of all knees by threshold; gives the figure of the knees as they are."""
        codes = decisions.codes_by_threshold(risk, thresholds)
        k = self.knees
        counts = bootstrap.Counts.of(codes, k.event, k.owner, k.people, len(thresholds) + 1)
        self._jobs[name] = counts, {name: statistic}
        return np.asarray(statistic(*counts.weighed(np.ones((k.people, 1), np.float32)))[0])

    def run(self, number: int, seed: int) -> dict[Any, dict[str, Array]]:
        """All groups' figures on the same draws; empty without draws."""
        return bootstrap.run(self._jobs, self.knees.people, number, seed) if number else {}

    def group(self, key: tuple[str, str], draws: Mapping[Any, Mapping[str, Array]]) -> Group:
        """A group's figures."""
        own, of_score = self._groups[key]
        prevalence = float(own.event.mean())
        figures = {
            name: self._figures(key, name, members, draws.get((key, name)))
            for name, members in of_score.items()
        }
        figures[baselines.PREVALENCE] = _of_prevalence(own.event)
        return Group(
            family=key[0],
            value=key[1],
            knees=len(own.event),
            participants=len(np.unique(own.owner)),
            events=int(own.event.sum()),
            prevalence=prevalence,
            scores=figures,
            differences=tuple(
                self._difference(key, name, members, draws)
                for name, members in of_score.items()
                if name != MODEL
            ),
        )

    def _figures(
        self, key: tuple[str, str], name: str, knees: _Knees, draws: Mapping[str, Array] | None
    ) -> ScoreFigures:
        event, owner, score = knees.event, knees.owner, knees.scores[name]
        if (reason := too_few(event)) is not None:
            none = Figure.none(reason)
            return ScoreFigures(none, none, none, _plain_brier(score, event), *[none] * 6)
        delong = discrimination.delong([score], event, owner)
        value = float(delong.auc[0])
        ap = discrimination.average_precision(score, event)
        brier = agreement.brier(score, event)
        prevalence = float(event.mean())
        low, high = delong.interval(0)
        centre: dict[str, float] = {}
        if draws is not None and (key, name) in self._jobs:
            counts, statistics = self._jobs[key, name]
            once = counts.weighed(np.ones((self.knees.people, 1), np.float32))
            centre = {n: float(s(*once)[0]) for n, s in statistics.items()}

        def with_interval(measure: str, exact: float) -> Figure:
            if draws is None or measure not in draws:
                return Figure(exact)
            return bootstrap.interval(exact, draws[measure], centre[measure])

        large, slope = agreement.intercept_and_slope(score, event, owner)
        ici, e50, e90 = agreement.distances(score, event)
        brier_figure = with_interval("brier", brier)
        return ScoreFigures(
            auc=with_interval("auc", value),
            auc_delong=Figure(value, low, high),
            average_precision=with_interval("average_precision", ap),
            brier=brier_figure,
            scaled_brier=Figure(agreement.scaled(brier, prevalence)),
            calibration_intercept=large,
            calibration_slope=slope,
            ici=ici,
            e50=e50,
            e90=e90,
        )

    def _difference(
        self, key: tuple[str, str], name: str, knees: _Knees, draws: Mapping[Any, Mapping[str, Array]]
    ) -> Difference:
        if (reason := too_few(knees.event)) is not None:
            return Difference(name, Figure.none(reason), None)
        pair = discrimination.delong([knees.scores[MODEL], knees.scores[name]], knees.event, knees.owner)
        value = float(pair.auc[0] - pair.auc[1])
        beside = f"{MODEL} beside {name}"
        model = draws.get((key, beside), draws.get((key, MODEL)))
        other = draws.get((key, name))
        figure = Figure(value)
        if model is not None and other is not None:
            figure = bootstrap.interval(value, model["auc"] - other["auc"])
        return Difference(name, figure, pair.p_of_difference(0, 1))


def too_few(event: npt.NDArray[np.bool_]) -> str | None:
    """Why a group's events tell nothing; ``None`` where they do."""
    events = int(event.sum())
    others = len(event) - events
    if events == 0:
        return "no event"
    if others == 0:
        return "every knee has the event"
    if min(events, others) < FEWEST:
        return f"{events} events among {len(event)} knees: fewer than {FEWEST} of a kind tell nothing"
    return None


def _plain_brier(score: Array, event: npt.NDArray[np.bool_]) -> Figure:
    return Figure(agreement.brier(score, event))


def _of_prevalence(event: npt.NDArray[np.bool_]) -> ScoreFigures:
    """The same risk for every knee, the events' share."""
    share = float(event.mean())
    missing = Figure.none("every knee has the same risk")
    return ScoreFigures(
        auc=Figure(0.5) if 0 < share < 1 else Figure.none(too_few(event) or ""),
        auc_delong=missing,
        average_precision=Figure(share),
        brier=Figure(share * (1 - share)),
        scaled_brier=Figure(0.0) if 0 < share < 1 else missing,
        calibration_intercept=Figure(0.0) if 0 < share < 1 else missing,
        calibration_slope=missing,
        ici=missing,
        e50=missing,
        e90=missing,
    )


def _means(score: Array, codes: npt.NDArray[np.int64], bins: int) -> Array:
    knees = np.bincount(codes, minlength=bins)
    return np.asarray(np.bincount(codes, weights=score, minlength=bins) / np.maximum(knees, 1))


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


def _population(scores: Scores, name: str) -> str | None:
    run = scores.documents.get("run", {})
    if name in run.get("recalibrated", {}):
        return str(run["recalibrated"][name]["population"])
    derived = run.get("derived", {})
    return str(derived["population"]) if name in derived.get("columns", ()) else scores.population


def _thresholds(asked: Sequence[float], prevalence: float) -> tuple[float, ...]:
    for threshold in asked:
        if not 0 < threshold < 1:
            raise UsageError(f"--threshold {threshold}: a risk lies between 0 and 1")
    usual = (prevalence / 2, prevalence, min(2 * prevalence, (1 + prevalence) / 2))
    return tuple(sorted({round(t, 4) for t in (asked or usual) if 0 < round(t, 4) < 1}))


def _decision_curve(
    model: Array, knees: _Knees, draws: Mapping[Any, Mapping[str, Array]]
) -> tuple[NetBenefit, ...]:
    share = float(knees.event.mean())
    replicates = draws["curve"]["curve"] if draws else None
    others = {
        name: _exact_curve(score, knees.event)
        for name, score in knees.scores.items()
        if name != MODEL and not np.isnan(score).any()
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
    at: Array, thresholds: Sequence[float], risk: Array, draws: Mapping[Any, Mapping[str, Array]]
) -> tuple[OperatingPoint, ...]:
    replicates = draws["points"]["points"] if draws else None

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
