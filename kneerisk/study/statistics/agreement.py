"""How well risks agree with what happened: Brier score, calibration, the reliability plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from kneerisk.method.recalibration import logit, sigmoid
from kneerisk.study.results import CalibrationBin, Figure
from kneerisk.study.statistics.discrimination import participants

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.int64]

_Z = NormalDist().inv_cdf(0.975)
_SPAN = 2 / 3
_FEWEST_VALUES = 5


@dataclass(frozen=True)
class LogisticFit:
    """Maximum likelihood, and a covariance that takes knees of one participant together."""

    coefficients: Array
    """[P]"""
    covariance: Array
    """[P, P], by the sandwich over participants (Liang & Zeger 1986)."""

    def figure(self, index: int) -> Figure:
        """A coefficient with its 95 % Wald interval."""
        value = float(self.coefficients[index])
        spread = _Z * math.sqrt(max(float(self.covariance[index, index]), 0.0))
        return Figure(value, value - spread, value + spread)


def fit_logistic(
    x: Array, event: Flags, owner: Owners | None = None, offset: Array | None = None
) -> LogisticFit:
    """Logistic regression of events on columns, by iterated least squares.

    Args:
        x: [N, P], a column of ones among them where an intercept is wanted.
        event: [N]
        owner: [N], the participant's number of each knee; without it each knee stands for itself.
        offset: [N], added to the linear predictor as it is.

    Raises:
        ValueError: there is no maximum, as where a column parts events from the rest.
    """
    y = event.astype(np.float64)
    columns = np.ascontiguousarray(x.T)
    fixed = 0.0 if offset is None else offset
    beta = np.zeros(len(columns))
    for _ in range(50):
        p = sigmoid(beta @ columns + fixed)
        information = (columns * (p * (1 - p))) @ columns.T
        try:
            step = np.linalg.solve(information, columns @ (y - p))
        except np.linalg.LinAlgError:
            raise ValueError("the logistic fit has no maximum") from None
        beta = beta + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            break
    else:
        raise ValueError("the logistic fit has no maximum")
    p = sigmoid(beta @ columns + fixed)
    bread = np.linalg.inv((columns * (p * (1 - p))) @ columns.T)
    residual, people = columns * (y - p), len(y)
    if owner is not None:
        residual = np.stack([np.bincount(owner, weights=row) for row in residual])
        people = participants(owner)
    meat = residual @ residual.T * people / max(people - 1, 1)
    return LogisticFit(beta, bread @ meat @ bread)


def intercept_and_slope(risk: Array, event: Flags, owner: Owners | None = None) -> tuple[Figure, Figure]:
    """Calibration in the large (slope held at 1), and the slope (its intercept free); Cox 1958."""
    x = logit(risk)
    one = np.ones((len(x), 1))
    try:
        large = fit_logistic(one, event, owner, offset=x).figure(0)
    except ValueError as error:
        large = Figure.none(str(error))
    if np.ptp(x) < 1e-9:
        return large, Figure.none("every knee has the same risk")
    try:
        slope = fit_logistic(np.column_stack([one[:, 0], x]), event, owner).figure(1)
    except ValueError as error:
        slope = Figure.none(str(error))
    return large, slope


def smoothed(risk: Array, event: Flags) -> Array:
    """Observed frequency at each risk, by LOWESS over two thirds of the knees, as rms's val.prob does."""
    from statsmodels.nonparametric.smoothers_lowess import lowess

    order = np.argsort(risk, kind="stable")
    x, y = risk[order], event[order].astype(np.float64)
    delta = 0.01 * float(np.ptp(x))
    result = np.empty(len(risk))
    result[order] = lowess(y, x, frac=_SPAN, it=0, delta=delta, is_sorted=True, return_sorted=False)
    return result


def distances(risk: Array, event: Flags) -> tuple[Figure, Figure, Figure]:
    """ICI, E50 and E90: mean, median and 90th percentile of |risk - smoothed frequency| (Austin 2019)."""
    if len(np.unique(risk)) < _FEWEST_VALUES:
        missing = Figure.none(f"fewer than {_FEWEST_VALUES} different risks: nothing to smooth over")
        return missing, missing, missing
    apart = np.abs(risk - smoothed(risk, event))
    return (
        Figure(float(apart.mean())),
        Figure(float(np.median(apart))),
        Figure(float(np.quantile(apart, 0.9))),
    )


def reliability(risk: Array, event: Flags, bins: int = 10) -> tuple[CalibrationBin, ...]:
    """Points of the reliability plot: knees in groups of about equal size, by risk; ties stay together."""
    edges = np.unique(np.quantile(risk, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, risk, side="left")
    points = []
    for group in np.unique(place):
        inside = place == group
        knees, events = int(inside.sum()), int(event[inside].sum())
        low, high = wilson(events, knees)
        points.append(CalibrationBin(knees, events, float(risk[inside].mean()), events / knees, low, high))
    return tuple(points)


def wilson(events: int, knees: int) -> tuple[float, float]:
    """95 % interval of a frequency (Wilson 1927)."""
    share, z2 = events / knees, _Z**2
    centre = (share + z2 / (2 * knees)) / (1 + z2 / knees)
    spread = _Z / (1 + z2 / knees) * math.sqrt(share * (1 - share) / knees + z2 / (4 * knees**2))
    return max(centre - spread, 0.0), min(centre + spread, 1.0)


def brier(risk: Array, event: Flags) -> float:
    """Mean squared difference of risk and event."""
    return float(np.mean((risk - event) ** 2))


def scaled(value: float, prevalence: float) -> float:
    """1 - Brier / Brier of the prevalence for every knee."""
    return 1 - value / (prevalence * (1 - prevalence))
