"""What acting on a risk comes to: net benefit and, at thresholds, sensitivity and its kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kneerisk.study.bootstrap import Array, Statistic

Risks = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MEASURES = ("sensitivity", "specificity", "ppv", "npv")


def codes_by_threshold(risk: Risks, thresholds: Sequence[float]) -> npt.NDArray[np.int64]:
    """How many of the rising thresholds each risk reaches; a risk equal to one reaches it."""
    return np.searchsorted(np.asarray(thresholds), risk, side="right").astype(np.int64)


def net_benefit(true: npt.ArrayLike, false: npt.ArrayLike, knees: npt.ArrayLike, threshold: float) -> Array:
    """True positives less false ones weighted by the threshold's odds, a knee (Vickers & Elkin 2006)."""
    odds = threshold / (1 - threshold)
    return np.asarray((np.asarray(true) - odds * np.asarray(false)) / np.asarray(knees))


def net_benefits_of(thresholds: Sequence[float]) -> Statistic:
    """Net benefit of each draw at each threshold, [B, T], from counts by threshold."""

    def statistic(without: Array, with_event: Array) -> Array:
        true, false = _reached(with_event), _reached(without)
        knees = (without + with_event).sum(axis=0)
        return np.stack(
            [net_benefit(true[i], false[i], np.maximum(knees, 1), t) for i, t in enumerate(thresholds)],
            axis=1,
        )

    return statistic


def operating_of(without: Array, with_event: Array) -> Array:
    """Sensitivity, specificity, PPV and NPV of each draw at each threshold, [B, T, 4]; else NaN."""
    true, false = _reached(with_event), _reached(without)
    events, others = with_event.sum(axis=0), without.sum(axis=0)
    missed, left = events - true, others - false
    pairs = ((true, true + missed), (left, left + false), (true, true + false), (left, left + missed))
    shares = [np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0) for a, b in pairs]
    return np.moveaxis(np.stack(shares), (0, 1, 2), (2, 1, 0))


def _reached(counts: Array) -> Array:
    """[T + 1, B] counts by how many thresholds are reached → [T, B] counts that reach each."""
    return np.asarray(np.cumsum(counts[::-1], axis=0)[::-1][1:])
