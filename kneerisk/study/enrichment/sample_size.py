"""How many participants a trial of two arms needs, to see a difference between two proportions."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial as its protocol states it; checked when it is made."""

    effect: float = 0.3
    """Relative reduction of the event rate by the treatment: 0.3 turns 10 % into 7 %."""
    power: float = 0.8
    alpha: float = 0.05
    """Two-sided."""
    dropout: float = 0.0
    """Share of those enrolled who are lost before the outcome is read."""
    cost_screen: float | None = None
    """Of screening one candidate, in any currency."""
    cost_enrolled: float | None = None
    """Of one candidate enrolled, for the whole trial, in the same currency."""

    def __post_init__(self) -> None:
        for name, lowest, highest in (("effect", 0, 1), ("power", 0, 1), ("alpha", 0, 1)):
            value = getattr(self, name)
            if not lowest < value < highest:
                raise UsageError(f"--{name} lies between {lowest} and {highest}; got {value}")
        if not self.alpha / 2 < self.power:
            raise UsageError(f"--power {self.power} is what chance alone gives with --alpha {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout is a share from 0 to below 1; got {self.dropout}")
        for name in ("cost_screen", "cost_enrolled"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < np.inf:
                raise UsageError(f"--{name.replace('_', '-')} must be 0 or more; got {value}")
        if (self.cost_screen is None) != (self.cost_enrolled is None):
            raise UsageError("a total needs both costs: give --cost-screen and --cost-enrolled")

    @property
    def has_costs(self) -> bool:
        """Whether totals can be told."""
        return self.cost_screen is not None

    def per_arm(self, rate: npt.ArrayLike) -> Array:
        """Participants an arm who must be observed to the end; see :func:`two_proportions`."""
        control = np.asarray(rate, np.float64)
        return two_proportions(control, control * (1 - self.effect), power=self.power, alpha=self.alpha)

    def enrolled(self, rate: npt.ArrayLike) -> Array:
        """Participants of both arms to enrol, those who will be lost included."""
        return np.asarray(2 * np.ceil(np.ceil(self.per_arm(rate)) / (1 - self.dropout)))


def two_proportions(
    first: npt.ArrayLike, second: npt.ArrayLike, *, power: float = 0.8, alpha: float = 0.05
) -> Array:
    """Observations a group to tell two proportions apart, not rounded; infinite where they are the same.

    Fleiss, Levin and Paik (2003), Statistical Methods for Rates and Proportions, chapter 4, equal groups,
    without a continuity correction; the equation that R's ``power.prop.test`` solves::

        n = (z(1 - alpha/2) sqrt(2 m (1 - m)) + z(power) sqrt(p (1 - p) + q (1 - q)))^2 / (p - q)^2,
        m = (p + q) / 2

    Args:
        first: p, in 0..1.
        second: q, in 0..1; broadcast with ``first``.
        power: chance to find the difference, in 0..1.
        alpha: of the two-sided test, in 0..1.
    """
    p, q = np.broadcast_arrays(np.asarray(first, np.float64), np.asarray(second, np.float64))
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    middle = (p + q) / 2
    spread = z_alpha * np.sqrt(2 * middle * (1 - middle)) + z_power * np.sqrt(p * (1 - p) + q * (1 - q))
    gap = np.abs(p - q)
    return np.where(gap > 0, spread**2 / np.where(gap > 0, gap, 1.0) ** 2, np.inf)
