"""How a simulated knee progresses: the model, its exact 12-month risk, and how it was made to meet the rates.

**The process.** A knee has a hidden *wear* ``x``, in mean jumps. Wear rises by jumps at random times: a
Poisson process, each jump exponentially distributed with mean 1. Between two months the expected number of
jumps is

    expected = pace[grade at baseline] · exp(SPREAD · liability) · (clock(later) - clock(earlier)),

with the knee's hidden liability standard normal over knees. Wear is cut into grades: grade g is
``WIDTHS[g]`` wide, so a knee late within its grade rises sooner, most of all at KL 1 to 3; KL 0 is narrow,
for the radiograph of a healthy knee tells little of its future. Liabilities spread little: most of the risk
that is not the grade's stands in the radiograph, so that a method can be seen to find it. Severity, what a
radiograph shows, is wear with every grade stretched to width 1: its whole part is the true grade. At baseline
most knees lie early in their grade and three in ten late, about to turn (``place_within``).

**Exact risks.** With N jumps of mean 1 the chance of going at least ``d`` further is P(M < N) for a Poisson
M of mean ``d``, so that

    P(wear passes x + d) = P(M < N),   N ~ Poisson(expected),  M ~ Poisson(d),

exactly, whatever the grades in between: the process does not see them.

**Meeting the rates.** ``pace`` is solved for so that each grade's 12-month rises, averaged over positions
within the grade and over liabilities, are those of ``KL_TRANSITIONS``. ``clock`` counts years since
baseline, slower after the first: rises in the OAI are fewer in the later years than a constant pace, even
among unlike knees, would give. It is solved for so that at 24, 36 and 48 months the share of all knees that
rose is the table's; it runs on at the last year's pace, which is how months that the table lacks (15, 30,
60, 84) get their rates. By grade, 24 to 48 months are met within about a quarter. Rises of two grades or
more are rarer than in the table, from KL 0 above all: that is the price of steep risks within a grade.

Stated as such: a KL 4 knee cannot rise, wear never heals, and pace goes by the grade at baseline all along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from kneerisk.simulate.rates import BASELINE_SHARES, rise_rate
from kneerisk.simulate.shape import MAX_SEVERITY

Array = npt.NDArray[np.float64]

WIDTHS = (1.5, 4.0, 5.0, 6.0, 4.0)
"""Of grades 0 to 4, in mean jumps; that of 4 only says how fast severity nears its top."""
SPREAD = 0.15
"""Standard deviation of the log pace between knees of one grade."""
RISING = 4
"""Grades 0 to 3: those with somewhere to rise to."""

_EDGES = np.concatenate([[0.0], np.cumsum(WIDTHS)])
_TERMS = 40
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(25)


def place_within(quantile: npt.ArrayLike) -> Array:
    """Quantiles in 0..1 of a grade's knees at baseline → places within the grade, 0 (just reached) to 1."""
    places = np.asarray(quantile, np.float64)
    return np.asarray(np.interp(places, (0.0, 0.70, 0.71, 1.0), (0.15, 0.40, 0.84, 0.95)))


def wear_of(severity: npt.ArrayLike) -> Array:
    """Severity in [0, 5), or a reader's edge of a grade → wear, in mean jumps."""
    return np.asarray(np.interp(np.asarray(severity, np.float64), np.arange(6.0), _EDGES))


def severity_of(wear: npt.ArrayLike) -> Array:
    """Wear → severity in [0, ``MAX_SEVERITY``]; its whole part is the true grade."""
    return np.asarray(
        np.minimum(np.interp(np.asarray(wear, np.float64), _EDGES, np.arange(6.0)), MAX_SEVERITY)
    )


def chance_to_pass(distance: npt.ArrayLike, expected: npt.ArrayLike) -> Array:
    """P(wear goes at least ``distance`` further) with ``expected`` jumps; broadcast, 1 where none is left."""
    d, rate = np.broadcast_arrays(np.asarray(distance, np.float64), np.asarray(expected, np.float64))
    ahead = np.maximum(d, 0.0)
    jumps, steps = np.exp(-rate), np.exp(-ahead)  # P(N = 0), P(M = 0)
    below = np.zeros_like(ahead)  # P(M < n)
    chance = np.zeros_like(ahead)
    for n in range(1, _TERMS):
        below = below + steps
        jumps = jumps * rate / n
        chance = chance + jumps * below
        steps = steps * ahead / n
    return np.asarray(np.where(d <= 0, 1.0, np.minimum(chance, 1.0)))


@dataclass(frozen=True, slots=True)
class Progression:
    """Paces and clock of one cohort's knees."""

    pace: tuple[float, ...]
    """Expected jumps in the first year at liability 0, by the grade at baseline (0 to 4)."""
    years: tuple[float, ...]
    """What the clock shows at 0, 12, 24, 36 and 48 months."""

    def clock(self, months: npt.ArrayLike) -> Array:
        """Months since baseline → first-year years; past 48 months at the pace of the year before."""
        m = np.asarray(months, np.float64)
        beyond = np.maximum(m - 48, 0) / 12 * (self.years[4] - self.years[3])
        return np.asarray(np.interp(m, (0, 12, 24, 36, 48), self.years) + beyond)

    def expected_jumps(
        self, grade: npt.ArrayLike, liability: npt.ArrayLike, start: npt.ArrayLike, stop: npt.ArrayLike
    ) -> Array:
        """Of knees with this true grade at baseline, between two months since baseline."""
        pace = np.asarray(self.pace)[np.asarray(grade, np.intp)]
        person = np.exp(SPREAD * np.asarray(liability, np.float64))
        return np.asarray(pace * person * (self.clock(stop) - self.clock(start)))


def advance(wear: float, expected: float, rng: np.random.Generator) -> float:
    """Wear after a stretch of time with so many expected jumps."""
    jumps = int(rng.poisson(expected))
    return wear + (float(rng.gamma(jumps)) if jumps else 0.0)


@cache
def fitted() -> Progression:
    """The progression that meets ``KL_TRANSITIONS``: each grade at 12 months, all knees at 24, 36, 48."""
    pace = [_bisect(partial(_excess, grade, rise_rate(grade, 12))) for grade in range(RISING)]
    pace.append(pace[-1])
    shares = np.asarray(BASELINE_SHARES[:RISING])

    def beyond(wanted: float, clock: float) -> float:
        return float(shares @ [_mean_rise(g, pace[g] * clock) for g in range(RISING)]) - wanted

    years = [0.0, 1.0]
    for months in (24, 36, 48):
        wanted = float(shares @ [rise_rate(g, months) for g in range(RISING)])
        years.append(_bisect(partial(beyond, wanted)))
    return Progression(tuple(pace), tuple(years))


def _excess(grade: int, wanted: float, expected: float) -> float:
    return _mean_rise(grade, expected) - wanted


def _mean_rise(grade: int, expected: float) -> float:
    """Rises of knees of one grade, averaged over places within it and liabilities."""
    jumps = _poisson(expected * np.exp(SPREAD * _NODES))  # [liability, n]
    return float(_WEIGHTS @ (jumps[:, 1:] @ _mean_below(grade)) / _WEIGHTS.sum())


@cache
def _mean_below(grade: int) -> Array:
    """P(M < n) for n from 1, of the jumps M that a knee needs for its grade's end, averaged over places."""
    distance = (1 - place_within((np.arange(60) + 0.5) / 60)) * WIDTHS[grade]
    return np.asarray(np.cumsum(_poisson(distance)[:, :-1], axis=1).mean(axis=0))


def _poisson(mean: Array) -> Array:
    """P(n) for n = 0 to ``_TERMS`` - 1 in a last axis."""
    steps = np.concatenate([np.ones((len(mean), 1)), mean[:, None] / np.arange(1, _TERMS)], axis=1)
    return np.asarray(np.exp(-mean)[:, None] * np.cumprod(steps, axis=1))


def _bisect(above: Callable[[float], float]) -> float:
    """Where a rising function crosses zero, between 0 and 8."""
    low, high = 0.0, 8.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if above(middle) < 0 else (low, middle)
    return (low + high) / 2
