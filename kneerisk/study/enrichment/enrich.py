"""Trial enrichment: whom to screen and enrol, how many, and at what cost (``kneerisk enrich``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.study.alarms import Alarm, alarms_of
from kneerisk.study.enrichment.candidates import Candidates, candidates
from kneerisk.study.enrichment.sample_size import Trial
from kneerisk.study.enrichment.screening import Point, points
from kneerisk.study.enrichment.selection import curve_thresholds
from kneerisk.study.enrichment.settings import EnrichSettings
from kneerisk.study.files import refuse_existing
from kneerisk.study.outcomes import Outcome

if TYPE_CHECKING:
    import polars as pl

    from kneerisk.study.scores import Scores

_SCORES = frozenset({"risk_12m_sum"})
"""Columns that rank and are no probability."""


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What enrichment by a risk comes to in one cohort."""

    table: str
    risk: str
    outcome: Outcome
    months: int
    basis: Literal["observed", "assumed"]
    """Where the event rates come from: readers' grades, or the calibrated risks themselves."""
    population: str | None
    """Whom the risks were calibrated to."""
    alarms: tuple[Alarm, ...]
    """The run's, but for those that a recalibration of the risk answers."""
    unit: Literal["knees", "participants"]
    candidates: int
    participants: int
    left_out: Mapping[str, int]
    notes: tuple[str, ...]
    """What must be known before a figure is used, the gravest first."""
    rule: str | None
    chosen: Point | None
    """The rule's own threshold."""
    nobody_enriched: Point
    """Every candidate enrolled, none screened."""
    curve: tuple[Point, ...]
    """From everybody to the highest hundredth, by descending share."""
    trial: Trial
    bootstrap: int
    confidence: float
    seed: int

    @property
    def break_even(self) -> float | None:
        """Cost of enrolling one over cost of screening one, above which the rule saves money.

        ``None`` where it never does, or cannot be told.
        """
        everybody = self.nobody_enriched.enrolled.value
        if self.chosen is None or everybody is None:
            return None
        screened, enrolled = self.chosen.screened.value, self.chosen.enrolled.value
        if screened is None or enrolled is None or everybody <= enrolled:
            return None
        return screened / (everybody - enrolled)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        found = asdict(self)
        found["break_even_cost_ratio"] = self.break_even
        for point, plain in ((self.chosen, found["chosen"]), *zip(self.curve, found["curve"], strict=True)):
            if point is not None:
                plain["predicted_within_interval"] = point.agrees
        return found


def enrich(settings: EnrichSettings) -> Enrichment:
    """Work out a trial's enrichment, and write the files that are asked for.

    Raises:
        UsageError: what is asked for does not fit the table.
        KneeriskError: nobody can be enrolled; or the rates would have to be assumed, and the run's alarms say
            that the cohort is unlike the population (``force`` goes on).
    """
    from kneerisk.study.scores import read_scores

    outputs = [settings.out, settings.curve, settings.plot]
    refuse_existing(outputs, settings.overwrite, inputs=[settings.table, settings.labels])
    outcome, months = settings.asked
    scores = read_scores(settings.table)
    alarms = alarms_of(scores.documents, settings.risk)
    is_probability = _is_probability(scores, settings.risk)
    if settings.labels is None:
        _refuse_assumptions(settings, alarms, is_probability)
    readings, label_notes = (
        (None, ()) if settings.labels is None else _readings(settings, scores, outcome, months)
    )
    found = candidates(
        scores, settings.risk, outcome, readings=readings, visit=settings.visit, one_knee=settings.one_knee
    )
    pool = found.pool(is_probability=is_probability)
    chosen_at = None if settings.rule is None else settings.rule.threshold(pool.risk)
    thresholds = curve_thresholds(pool.risk, chosen_at)
    nobody, curve = points(
        pool,
        thresholds,
        settings.trial,
        bootstrap=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    chosen = None if chosen_at is None else curve[thresholds.tolist().index(chosen_at)]
    if chosen is not None and not chosen.selected:
        raise UsageError(
            f"nobody of {settings.table.name} has {settings.risk} at or above {chosen_at:g}: name a lower one"
        )
    result = Enrichment(
        table=settings.table.name,
        risk=settings.risk,
        outcome=outcome,
        months=months,
        basis=pool.basis,
        population=scores.population_of(settings.risk),
        alarms=alarms,
        unit=found.unit,
        candidates=len(pool.risk),
        participants=found.participants,
        left_out=found.left_out,
        notes=(*_notes(settings, scores, found, chosen, pool.basis), *label_notes, *scores.notes),
        rule=None if settings.rule is None else settings.rule.words(),
        chosen=chosen,
        nobody_enriched=nobody,
        curve=tuple(curve),
        trial=settings.trial,
        bootstrap=settings.bootstrap,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    _write(settings, found, result)
    return result


def _is_probability(scores: Scores, risk: str) -> bool:
    if risk in _SCORES or risk not in scores.frame.columns or not scores.frame[risk].dtype.is_numeric():
        return risk not in _SCORES
    return bool(scores.frame[risk].drop_nulls().is_between(0, 1).all())


def _refuse_assumptions(settings: EnrichSettings, alarms: tuple[Alarm, ...], is_probability: bool) -> None:
    """Without labels the rates are the risks' own, which must be able to bear that."""
    if not is_probability:
        raise UsageError(
            f"{settings.risk} is a score and no probability: without --labels no rate can be told from it. "
            "Rank by risk_12m, or give readers' grades"
        )
    if alarms and not settings.force:
        said = "; ".join(alarm.message for alarm in alarms)
        raise KneeriskError(
            f"without --labels the event rates would be the risks of {settings.table.name} themselves, and "
            f"its run raised an alarm: {said}. Give --labels, recalibrate to knees like these (kneerisk "
            "calibrate, then derive --calibration), or add --force if you know better"
        )


def _readings(
    settings: EnrichSettings, scores: Scores, outcome: Outcome, months: int
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Reader's grade and outcome of each scored knee, and how the two tables met."""
    from kneerisk.study.labels import join, observe, read_labels
    from kneerisk.study.scores import KEYS

    assert settings.labels is not None
    joined = join(scores, read_labels(settings.labels), allow_unmatched=settings.allow_unmatched)
    known = observe(joined, outcome, months).frame.select(*KEYS, "event")
    readings = joined.frame.select(*KEYS, "reader_kl")
    return readings.join(known, on=KEYS, how="left", nulls_equal=True), joined.notes


def _notes(
    settings: EnrichSettings,
    scores: Scores,
    found: Candidates,
    chosen: Point | None,
    basis: Literal["observed", "assumed"],
) -> list[str]:
    notes: list[str] = []
    if basis == "observed" and (unknown := found.frame["event"].null_count()):
        notes.append(
            f"the outcome of {unknown} of {len(found.frame)} candidates is not known: they count among those "
            "screened and selected, and in no rate"
        )
    if basis == "assumed":
        whom = scores.population_of(settings.risk) or "an unknown population: the table names none"
        notes.append(
            "no labels were given: every event rate here is assumed, the mean of risks calibrated to "
            f"{whom}. In another population it is off, and the intervals do not know of it"
        )
    if chosen is not None and chosen.agrees is False:
        observed, predicted = chosen.event_rate, chosen.predicted_rate
        notes.append(
            f"the risks promised {_percent(predicted.value)} among those selected, and "
            f"{_percent(observed.value)} ({_percent(observed.low)} to {_percent(observed.high)}) had the "
            "outcome: they are not calibrated to this cohort. Rank by them, but recalibrate (kneerisk "
            "calibrate) before a rate is taken from them"
        )
    wanted = None if settings.rule is None else settings.rule.number
    if chosen is not None and wanted is not None and chosen.selected > wanted:
        notes.append(f"{chosen.selected} are selected, not {wanted}: the others tie with the last one")
    if chosen is not None and chosen.caution is not None:
        notes.append(chosen.caution)
    if found.unit == "knees" and found.both_knees:
        notes.append(
            f"{found.both_knees} participants bring both knees, and the sample size counts knees as if they "
            "were independent: add --one-knee-per-participant for a trial that randomises people"
        )
    return notes


def _write(settings: EnrichSettings, found: Candidates, result: Enrichment) -> None:
    """The files that were asked for; each says how it came to be."""
    from kneerisk.study.enrichment.outputs import SELECTED, curve_frame, curve_meanings, selected_frame
    from kneerisk.study.files import write_frame

    said = result.to_json()
    origin = {"enrichment": {key: said[key] for key in said if key != "curve"}}
    if settings.out is not None and result.chosen is not None and result.chosen.threshold is not None:
        write_frame(selected_frame(found.frame, result.chosen.threshold), settings.out, SELECTED, origin)
    if settings.curve is not None:
        write_frame(
            curve_frame([result.nobody_enriched, *result.curve]), settings.curve, curve_meanings(), origin
        )
    if settings.plot is not None:
        from kneerisk.study.figures.enrichment import enrichment_curve
        from kneerisk.study.figures.style import save

        save(partial(enrichment_curve, said), settings.plot)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
