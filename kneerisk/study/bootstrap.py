"""The bootstrap over participants, on counts: two knees of one person are drawn together or not at all.

A draw gives each participant a weight, how often it was drawn: Poisson of mean 1, as drawing with replacement
has it for more than a few participants (Chamandy et al. 2012). Every figure here follows from how many weighted
knees, with and without the event, lie at each value of the score: a matrix of (values x participants) times the
weights of a block of draws. So a thousand draws of a million knees are a few matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import exp, factorial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.study.results import Figure

if TYPE_CHECKING:
    from scipy.sparse import csc_array

Array = npt.NDArray[Any]
Owners = npt.NDArray[np.int64]

BINS = 4096
"""Scores with more distinct values are counted in so many bins of equal size for the draws; the figure
itself is always that of the scores as they are."""
_BLOCK = 64
_FEWEST = 0.9


@dataclass(frozen=True)
class Counts:
    """Knees by value of a score, for weighing by draws."""

    matrix: csc_array
    """[2 K, participants]: how many knees without the event at each of K values, rising; then with it."""
    bins: int

    @classmethod
    def of(cls, codes: Owners, event: npt.NDArray[np.bool_], owner: Owners, people: int, bins: int) -> Counts:
        """From each knee's place among the values, 0..bins - 1, its event and its participant's number."""
        from scipy.sparse import csc_array

        rows = codes + bins * event
        ones = np.ones(len(rows), dtype=np.float32)
        matrix = csc_array((ones, (rows, owner)), shape=(2 * bins, people))
        return cls(matrix, bins)

    def weighed(self, weights: Array) -> tuple[Array, Array]:
        """Weights [participants, B] → weighted knees without and with the event, [K, B] each."""
        total = np.asarray(self.matrix @ weights, dtype=np.float64)
        return total[: self.bins], total[self.bins :]


Statistic = Callable[[Array, Array], Array]
"""Knees without and with the event, [K, B] each → a figure of each draw, [B] or [B, …]."""


def codes_of(score: npt.NDArray[np.float64]) -> tuple[Owners, int]:
    """Each score's place among the distinct values or, where there are many, among bins of equal size."""
    values, codes = np.unique(score, return_inverse=True)
    if len(values) <= BINS:
        return codes.astype(np.int64), len(values)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, score, side="right").astype(np.int64), len(edges) + 1


def draws(people: int, number: int, seed: int) -> Iterator[Array]:
    """How often each participant is drawn: float32 [people, up to 64], ``number`` draws in all."""
    rng = np.random.Generator(np.random.SFC64(seed))
    below = np.cumsum([exp(-1) / factorial(times) for times in range(8)])
    cuts = np.round(below * (1 << 16)).astype(np.uint16)  # P(drawn 9 times or more) is 1e-6: as good as never
    for start in range(0, number, _BLOCK):
        size = min(_BLOCK, number - start)
        weights = np.empty((people, size), dtype=np.float32)
        for part in np.array_split(weights, max(1, people * size >> 18)):  # parts that stay in the cache
            words = np.frombuffer(rng.bytes(2 * part.size), dtype=np.uint16)
            times = np.zeros(part.size, dtype=np.uint8)
            for cut in cuts:
                times += words >= cut
            part[:] = times.reshape(part.shape)
        yield weights


def run(
    jobs: Mapping[Any, tuple[Counts, Mapping[str, Statistic]]], people: int, number: int, seed: int
) -> dict[Any, dict[str, Array]]:
    """Every statistic of every job on the same draws: key → name → [number, …]."""
    found: dict[Any, dict[str, list[Array]]] = {k: {n: [] for n in s} for k, (_, s) in jobs.items()}
    for weights in draws(people, number, seed):
        for key, (counts, statistics) in jobs.items():
            without, with_event = counts.weighed(weights)
            for name, statistic in statistics.items():
                found[key][name].append(statistic(without, with_event))
    return {k: {n: np.concatenate(v) for n, v in s.items()} for k, s in found.items()}


def auc_of(without: Array, with_event: Array) -> Array:
    """AUC of each draw, [B]; NaN where a class is missing."""
    below = np.cumsum(without, axis=0) - without / 2
    pairs = without.sum(axis=0) * with_event.sum(axis=0)
    return _ratio((with_event * below).sum(axis=0), pairs)


def average_precision_of(without: Array, with_event: Array) -> Array:
    """Average precision of each draw, [B]."""
    found = np.cumsum(with_event[::-1], axis=0)
    called = found + np.cumsum(without[::-1], axis=0)
    precision = _ratio(found, called, empty=0.0)
    return _ratio((precision * with_event[::-1]).sum(axis=0), with_event.sum(axis=0))


def brier_of(risk: Array) -> Statistic:
    """Brier score of each draw, for bins of the given mean risks [K]."""

    def statistic(without: Array, with_event: Array) -> Array:
        missed = without * (risk**2)[:, None] + with_event * ((1 - risk) ** 2)[:, None]
        return _ratio(missed.sum(axis=0), (without + with_event).sum(axis=0))

    return statistic


def interval(value: float | None, replicates: Array, centre: float | None = None) -> Figure:
    """A figure with its percentile interval.

    Args:
        value: the figure, of the knees as they are.
        replicates: [draws]; NaN where a draw had no such figure.
        centre: the figure on the counts that the draws used, where those are binned: the interval is moved
            by how far it lies from ``value``.
    """
    if value is None or not np.isfinite(value):
        return Figure.none("not defined here")
    known = replicates[np.isfinite(replicates)]
    if len(known) < max(_FEWEST * len(replicates), 2):
        return Figure(float(value))
    low, high = np.quantile(known, (0.025, 0.975))
    shift = 0.0 if centre is None else value - centre
    return Figure(float(value), float(low + shift), float(high + shift))


def _ratio(above: Array, below: Array, empty: float = np.nan) -> Array:
    return np.divide(above, below, out=np.full(np.shape(above), empty), where=np.asarray(below) > 0)
