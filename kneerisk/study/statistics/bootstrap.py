"""The bootstrap over participants, on counts: two knees of one person are drawn together or not at all.

A draw gives each participant a weight, how often it was drawn: Poisson of mean 1, as drawing with
replacement has it for more than a few participants (Chamandy et al. 2012). Every figure here follows from how
many weighted knees, with and without the event, lie at each value of the score: a matrix of values by
participants, times the weights of a block of draws. So a thousand draws of a million knees are a few
products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
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
_BLOCK = 32
_FEWEST = 0.9


@dataclass(frozen=True)
class Counts:
    """Knees by group and value of a score, for weighing by draws."""

    matrix: csc_array
    """[G · 2 · K, participants]: by group, without and with the event, and value, rising."""
    groups: int
    bins: int

    @classmethod
    def of(
        cls,
        codes: Owners,
        event: npt.NDArray[np.bool_],
        owner: Owners,
        people: int,
        bins: int,
        group: Owners | None = None,
        groups: int = 1,
    ) -> Counts:
        """From each knee's place among the values, its event, its participant's number, and its group.

        Args:
            codes: [N], 0..bins - 1.
            event: [N]
            owner: [N], 0..people - 1.
            people: participants of the whole cohort.
            bins: K.
            group: [N], 0..groups - 1; without it all are one group.
            groups: G.
        """
        from scipy.sparse import csc_array

        rows = codes + bins * event
        if group is not None:
            rows += 2 * bins * group
        # A column is a participant, and its entries the rows that its knees lie in, in any order.
        order = np.argsort(owner, kind="stable")
        starts = np.zeros(people + 1, dtype=np.int32)
        np.cumsum(np.bincount(owner, minlength=people), out=starts[1:])
        parts = np.ones(len(rows), np.float32), rows[order].astype(np.int32), starts
        return cls(csc_array(parts, shape=(groups * 2 * bins, people)), groups, bins)

    def weighed(self, weights: Array) -> tuple[Array, Array]:
        """Weights [participants, B] → weighted knees without and with the event, [G, K, B] each."""
        total = np.asarray(self.matrix @ weights, dtype=np.float64)
        total = total.reshape(self.groups, 2, self.bins, -1)
        return total[:, 0], total[:, 1]

    def once(self) -> tuple[Array, Array]:
        """The knees as they are, every participant counted once: [G, K, 1] each."""
        return self.weighed(np.ones((self.matrix.shape[1], 1), np.float32))


Statistic = Callable[[Array, Array], Array]
"""Knees without and with the event, [G, K, B] each → a figure of each group and draw, [G, B, …]."""


def codes_of(score: npt.NDArray[np.float64], most: int = BINS) -> tuple[Owners, int]:
    """Each score's place among the distinct values or, where there are more, among bins of equal size."""
    values, codes = np.unique(score, return_inverse=True)
    if len(values) <= most:
        return codes.astype(np.int64), len(values)
    edges = np.unique(np.quantile(score, np.linspace(0, 1, most + 1)[1:-1]))
    return np.searchsorted(edges, score, side="right").astype(np.int64), len(edges) + 1


def draws(people: int, number: int, seed: int) -> Iterator[Array]:
    """How often each participant is drawn: float32 [people, up to 32], ``number`` draws in all."""
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
    """Every statistic of every job on the same draws: key → name → [G, number, …]."""
    found: dict[Any, dict[str, list[Array]]] = {k: {n: [] for n in s} for k, (_, s) in jobs.items()}

    def weigh(key: Any, weights: Array) -> None:
        counts, statistics = jobs[key]
        without, with_event = counts.weighed(weights)
        for name, statistic in statistics.items():
            found[key][name].append(statistic(without, with_event))

    # Sparse products let go of the interpreter: two jobs at once, on the same weights.
    with ThreadPoolExecutor(2) as pool:
        for weights in draws(people, number, seed):
            for _ in pool.map(weigh, jobs, repeat(weights)):
                pass
    return {k: {n: np.concatenate(v, axis=1) for n, v in s.items()} for k, s in found.items()}


def auc_of(without: Array, with_event: Array) -> Array:
    """AUC of each group and draw; NaN where a class is missing."""
    below = np.cumsum(without, axis=-2) - without / 2
    pairs = without.sum(axis=-2) * with_event.sum(axis=-2)
    return _ratio((with_event * below).sum(axis=-2), pairs)


def average_precision_of(without: Array, with_event: Array) -> Array:
    """Average precision of each group and draw."""
    from_the_top = with_event[..., ::-1, :]
    found = np.cumsum(from_the_top, axis=-2)
    called = found + np.cumsum(without[..., ::-1, :], axis=-2)
    precision = _ratio(found, called, empty=0.0)
    return _ratio((precision * from_the_top).sum(axis=-2), with_event.sum(axis=-2))


def brier_of(risk: Array) -> Statistic:
    """Brier score of each group and draw, for bins of the given mean risks [K]."""

    def statistic(without: Array, with_event: Array) -> Array:
        missed = without * (risk**2)[:, None] + with_event * ((1 - risk) ** 2)[:, None]
        return _ratio(missed.sum(axis=-2), (without + with_event).sum(axis=-2))

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
    shares = np.full(np.shape(above), empty)
    np.divide(above, below, out=shares, where=np.asarray(below) > 0)
    return shares
