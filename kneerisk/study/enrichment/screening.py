"""What a trial comes to that enrols those at or above a threshold, with intervals by the bootstrap.

The figures are those of prognostic enrichment (Kerr, Roth, Zhu and others 2017, Evaluating biomarkers for
prognostic enrichment of clinical trials, Clinical Trials 14:629-638): the rate among those enrolled, the
sample size that it asks for, how many must be screened to find so many, and what both cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kneerisk.study.enrichment.sample_size import Trial
from kneerisk.study.results import Figure

Array = npt.NDArray[np.float64]

FEW_EVENTS = 10
"""Below this many events an interval of their rate is not to be trusted, and says so."""


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold, whom it selects, and the trial that follows."""

    threshold: float | None
    """``None``: everybody, which is no enrichment."""
    selected: int
    share: float
    """Of the candidates."""
    followed: int
    """Selected candidates whose outcome is known; 0 without labels."""
    events: int | None
    event_rate: Figure
    """Observed where there are labels, else the mean of the risks."""
    predicted_rate: Figure
    """Mean risk of the same candidates; ``None`` for a score that is no probability."""
    captured: Figure
    """Share of all events that falls to those selected."""
    number_needed_to_screen: Figure
    """Candidates screened for each one enrolled."""
    per_arm: Figure
    """Participants an arm observed to the end."""
    enrolled: Figure
    """Both arms, those who will be lost included."""
    screened: Figure
    """Candidates to screen until so many are enrolled."""
    cost: Figure
    caution: str | None = None
    """Why the intervals are not to be trusted."""

    @property
    def agrees(self) -> bool | None:
        """Whether the predicted rate lies in the observed one's interval; ``None`` where one is missing."""
        predicted, observed = self.predicted_rate.value, self.event_rate
        if self.events is None or predicted is None or observed.low is None or observed.high is None:
            return None
        return observed.low <= predicted <= observed.high


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates as arrays, one place a candidate."""

    risk: Array
    """[N] what they are ranked by, the higher the sooner enrolled."""
    person: npt.NDArray[np.int64]
    """[N] 0 .. persons - 1: whose knee; resampled together."""
    event: Array | None = None
    """[N] 1, 0, or nan where the outcome is not known; ``None`` without labels."""
    is_probability: bool = True

    @property
    def basis(self) -> Literal["observed", "assumed"]:
        """Where the rates come from."""
        return "assumed" if self.event is None else "observed"


def points(
    pool: Pool,
    thresholds: Array,
    trial: Trial,
    *,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[Point, list[Point]]:
    """No enrichment, and the figures at each threshold.

    Persons are drawn with replacement, all their candidates with them; thresholds stay as they are, as a
    protocol would state them.

    Args:
        pool: at least one candidate.
        thresholds: [K], ascending, without repeats.
        trial: effect, power and costs.
        bootstrap: resamples; 0 gives no intervals.
        confidence: of the percentile intervals.
        seed: of the resamples.
    """
    tallies = _tallies(pool, thresholds, bootstrap, seed)  # [1 + B, 1 + K, 4], everybody first
    figures = _figures(tallies, pool, trial)
    tails = ((1 - confidence) / 2, (1 + confidence) / 2)
    found = [
        _point(
            None if k == 0 else float(thresholds[k - 1]),
            tallies[0, k],
            tallies[0, 0],
            {name: values[:, k] for name, values in figures.items()},
            pool,
            trial.has_costs,
            tails,
        )
        for k in range(len(thresholds) + 1)
    ]
    return found[0], found[1:]


_COUNT, _FOLLOWED, _EVENTS, _RISK = range(4)


def _tallies(pool: Pool, thresholds: Array, bootstrap: int, seed: int) -> Array:
    """[1 + B, 1 + K, 4]: candidates, followed ones, events and summed risk at or above each threshold.

    The first row is the pool itself; the first threshold is none at all.  The risks are summed over those
    whose outcome is known, so that predicted and observed speak of the same candidates; without labels over
    all.
    """
    bins = np.searchsorted(thresholds, pool.risk, side="right")  # 0: below every threshold
    width = len(thresholds) + 1
    known = np.ones(len(pool.risk)) if pool.event is None else (~np.isnan(pool.event)).astype(np.float64)
    events = np.zeros(len(pool.risk)) if pool.event is None else np.nan_to_num(pool.event)
    values = (None, known, events, known * pool.risk)
    persons = int(pool.person.max()) + 1
    rng = np.random.default_rng(seed)
    tallies = np.empty((bootstrap + 1, width, 4))
    for row in range(bootstrap + 1):
        drawn = None
        if row:
            times = np.bincount(rng.integers(0, persons, persons), minlength=persons)
            drawn = times[pool.person].astype(np.float64)
        for column, value in enumerate(values):
            weights = value if drawn is None else drawn if value is None else drawn * value
            tallies[row, :, column] = np.bincount(bins, weights, minlength=width)
    # From counts between thresholds to counts at or above each.
    return np.asarray(np.cumsum(tallies[:, ::-1], axis=1)[:, ::-1])


def _figures(tallies: Array, pool: Pool, trial: Trial) -> dict[str, Array]:
    """Each figure [1 + B, 1 + K]; nan where nobody is selected, infinite where no trial is large enough."""
    count, followed = tallies[..., _COUNT], tallies[..., _FOLLOWED]
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = tallies[..., _EVENTS] / followed
        predicted = tallies[..., _RISK] / followed
        rate = predicted if pool.event is None else observed
        expected = tallies[..., _RISK] if pool.event is None else tallies[..., _EVENTS]
        captured = expected / expected[:, :1]
        nns = count[:, :1] / count
        per_arm = np.ceil(trial.per_arm(rate))
        enrolled = trial.enrolled(rate)
        screened = np.ceil(enrolled * nns)
        per_screened, per_enrolled = trial.cost_screen or 0.0, trial.cost_enrolled or 0.0
        # Without enrichment nobody is screened: whoever could be enrolled is.
        cost = enrolled * per_enrolled + screened * per_screened
        cost[:, 0] = enrolled[:, 0] * per_enrolled
    return {
        "event_rate": rate,
        "predicted_rate": predicted,
        "captured": captured,
        "number_needed_to_screen": nns,
        "per_arm": per_arm,
        "enrolled": enrolled,
        "screened": screened,
        "cost": cost,
    }


def _point(
    threshold: float | None,
    tally: Array,
    everybody: Array,
    figures: dict[str, Array],
    pool: Pool,
    costs: bool,
    tails: tuple[float, float],
) -> Point:
    labelled = pool.event is not None
    followed, events = (int(tally[_FOLLOWED]), int(tally[_EVENTS])) if labelled else (0, None)
    reason = caution = None
    if events is not None:
        if not followed:
            reason = "the outcome of nobody selected is known"
        elif not events:
            reason = "no event among those selected"
        elif events < FEW_EVENTS:
            counted = "1 event" if events == 1 else f"{events} events"
            caution = f"only {counted} among those selected: the intervals are not to be trusted"
    found = {name: _figure(values, tails, reason) for name, values in figures.items()}
    if not pool.is_probability:
        found["predicted_rate"] = Figure.none("they were ranked by a score that is no probability")
    if not costs:
        found["cost"] = Figure.none("costs were not given")
    return Point(
        threshold=threshold,
        selected=int(tally[_COUNT]),
        share=float(tally[_COUNT] / everybody[_COUNT]),
        followed=followed,
        events=events,
        caution=caution,
        **found,
    )


def _figure(values: Array, tails: tuple[float, float], reason: str | None) -> Figure:
    """The first value with the percentile interval of the rest."""
    value, resamples = float(values[0]), values[1:]
    if not np.isfinite(value):
        return Figure.none(reason or "nobody is selected")
    resamples = resamples[~np.isnan(resamples)]
    if not len(resamples):
        return Figure(value)
    # Order statistics, not interpolated: a sample size is infinite in a resample without an event.
    low, high = (float(v) for v in np.quantile(resamples, tails, method="closest_observation"))
    return Figure(value, low if np.isfinite(low) else None, high if np.isfinite(high) else None)
