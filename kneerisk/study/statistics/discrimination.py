"""How well risks tell events apart: AUC, its variance by DeLong's method, average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.int64]

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class DeLong:
    """AUCs of K scores on the same knees, and how they vary together."""

    auc: Array
    """[K]"""
    covariance: Array
    """[K, K]"""

    def interval(self, index: int) -> tuple[float, float]:
        """95 % interval of one AUC, normal on the AUC's own scale and kept in 0..1, as pROC gives it."""
        centre, spread = float(self.auc[index]), _Z * math.sqrt(max(self.covariance[index, index], 0.0))
        return max(centre - spread, 0.0), min(centre + spread, 1.0)

    def p_of_difference(self, one: int, other: int) -> float | None:
        """Two-sided p of two AUCs being the same; ``None`` where their difference does not vary."""
        c = self.covariance
        variance = float(c[one, one] + c[other, other] - 2 * c[one, other])
        if variance <= 1e-18:
            return None
        z = float(self.auc[one] - self.auc[other]) / math.sqrt(variance)
        return 2 * NormalDist().cdf(-abs(z))


def auc(score: Array, event: Flags) -> float:
    """P(a knee with the event scores higher than one without), ties counting half."""
    ranks = _midranks(score)
    positives = int(event.sum())
    negatives = len(event) - positives
    return float((ranks[event].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def delong(scores: Sequence[Array], event: Flags, owner: Owners | None = None) -> DeLong:
    """AUCs and their covariance (DeLong, DeLong & Clarke-Pearson 1988), by midranks (Sun & Xu 2014).

    With owners, knees of one participant are taken together (Obuchowski 1997): the components of each
    participant are summed before their variance is taken. With one knee a participant both are the same.

    Args:
        scores: K arrays [N].
        event: [N]; at least two of either kind.
        owner: [N], the participant's number of each knee.
    """
    m, n = int(event.sum()), int((~event).sum())
    ones = np.empty((len(scores), m))
    zeros = np.empty((len(scores), n))
    for row, score in enumerate(scores):
        all_ranks = _midranks(score)
        ones[row] = (all_ranks[event] - _midranks(score[event])) / n
        zeros[row] = 1 - (all_ranks[~event] - _midranks(score[~event])) / m
    aucs = ones.mean(axis=1)
    if owner is None:
        return DeLong(aucs, np.atleast_2d(np.cov(ones)) / m + np.atleast_2d(np.cov(zeros)) / n)
    people = int(owner.max()) + 1
    ones_by = _summed(ones - aucs[:, None], owner[event], people)
    zeros_by = _summed(zeros - aucs[:, None], owner[~event], people)
    with_one, with_zero, everybody = (participants(o) for o in (owner[event], owner[~event], owner))
    s10 = ones_by @ ones_by.T * with_one / ((with_one - 1) * m)
    s01 = zeros_by @ zeros_by.T * with_zero / ((with_zero - 1) * n)
    s11 = ones_by @ zeros_by.T * everybody / (everybody - 1)
    return DeLong(aucs, s10 / m + s01 / n + (s11 + s11.T) / (m * n))


def participants(owner: Owners) -> int:
    """How many different participants some knees are of."""
    return int(np.count_nonzero(np.bincount(owner)))


def average_precision(score: Array, event: Flags) -> float:
    """Mean precision over the events, from the highest score down (scikit-learn's)."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(event, score))


def _midranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(values)]
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + ends + 1) / 2, ends - starts)
    return ranks


def _summed(components: Array, owner: Owners, people: int) -> Array:
    return np.stack([np.bincount(owner, weights=row, minlength=people) for row in components])
