"""What acting on a risk comes to: net benefit and, at thresholds, sensitivity and its kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kneerisk.study.statistics.bootstrap import Array, Statistic

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
    """Net benefit of each group and draw at each threshold, [G, B, T], from counts by threshold."""

    def statistic(without: Array, with_event: Array) -> Array:
        true, false = _reached(with_event), _reached(without)
        knees = np.maximum((without + with_event).sum(axis=-2), 1)
        each = [net_benefit(true[..., i, :], false[..., i, :], knees, t) for i, t in enumerate(thresholds)]
        return np.stack(each, axis=-1)

    return statistic


def operating_of(without: Array, with_event: Array) -> Array:
    """Sensitivity, specificity, PPV and NPV at each threshold, [G, B, T, 4]; NaN where undefined."""
    true, false = _reached(with_event), _reached(without)
    missed = with_event.sum(axis=-2, keepdims=True) - true
    left = without.sum(axis=-2, keepdims=True) - false
    pairs = ((true, true + missed), (left, left + false), (true, true + false), (left, left + missed))
    shares = [np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0) for a, b in pairs]
    return np.stack([np.swapaxes(share, -1, -2) for share in shares], axis=-1)


def _reached(counts: Array) -> Array:
    """[G, T + 1, B] counts by how many thresholds are reached → [G, T, B] counts that reach each."""
    return np.asarray(np.cumsum(counts[..., ::-1, :], axis=-2)[..., ::-1, :][..., 1:, :])
