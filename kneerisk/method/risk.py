"""Risk of progression from the grade now and at twelve months: two ways to join them, and a rise's hazards.

The sum is Butler, Hilton & Carneiro (MICCAI 2025, arXiv 2506.14560), Eq. 3-4. It takes the grade now and the
grade at twelve months as independent given the image: two flat posteriors give 0.40, so most of it is doubt.
The monotone join is ours. It is for readers who grade both visits side by side, as the Osteoarthritis
Initiative's did: their doubt is the same at both, and only what the later posterior adds above is a rise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def risk_of_rise(p_now: npt.ArrayLike, p_12m: npt.ArrayLike) -> Array:
    """P(grade at 12 months > grade now) = sum_i p_now[i] · sum_{j>i} p_12m[j] (arXiv 2506.14560, Eq. 3-4).

    Args:
        p_now: [..., 5], sums to one over the last axis.
        p_12m: [..., 5], broadcast against ``p_now``.

    Returns:
        float64 [...], in 0..1.
    """
    now = np.asarray(p_now, dtype=np.float64)
    total = (now * above_each_grade(p_12m)).sum(axis=-1)
    return np.asarray(np.clip(total, 0.0, 1.0))  # a sum may round past 1


def monotone_rise(p_now: npt.ArrayLike, p_12m: npt.ArrayLike) -> Array:
    """The rise that a monotone coupling allows: sum over k of max(0, P(12 months > k) - P(now > k)).

    It is the least number of grades, in expectation, by which knees must rise to turn one posterior into the
    other; where none rises by two grades it is the probability of a rise.

    Args:
        p_now: [..., 5], sums to one over the last axis.
        p_12m: [..., 5], broadcast against ``p_now``.

    Returns:
        float64 [...], in 0..4.
    """
    gained = above_each_grade(p_12m) - above_each_grade(p_now)
    return np.asarray(np.maximum(gained, 0.0).sum(axis=-1))


def hazards_of(moves: npt.ArrayLike) -> Array:
    """P(KL j at 12 months | KL i now) [..., 5, 5] → P(it rises | KL i now) float64 [..., 5], the last 0."""
    return np.asarray(np.triu(np.asarray(moves, dtype=np.float64), k=1).sum(axis=-1))


def above_each_grade(p: npt.ArrayLike) -> Array:
    """P(grade > i) for each grade i: [..., 5] → float64 [..., 5], the last always 0."""
    posterior = np.asarray(p, dtype=np.float64)
    above = np.zeros_like(posterior)
    above[..., :-1] = np.cumsum(posterior[..., :0:-1], axis=-1)[..., ::-1]
    return above
