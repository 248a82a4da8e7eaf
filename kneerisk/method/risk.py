"""Risk of progression from two grade posteriors.

The sum is Butler, Hilton & Carneiro (MICCAI 2025, arXiv 2506.14560), Eq. 3-4. It takes the grade now and the
grade at twelve months as independent given the image: two flat posteriors give 0.40, so it is a score until
calibrated.
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


def above_each_grade(p: npt.ArrayLike) -> Array:
    """P(grade > i) for each grade i: [..., 5] → float64 [..., 5], the last always 0."""
    posterior = np.asarray(p, dtype=np.float64)
    above = np.zeros_like(posterior)
    above[..., :-1] = np.cumsum(posterior[..., :0:-1], axis=-1)[..., ::-1]
    return above


def evidence_above(p_now: npt.ArrayLike, p_12m: npt.ArrayLike, grade: npt.ArrayLike) -> Array:
    """How far the image places the knee above a reader's grade: mean of P(now > g) and P(12 months > g).

    Ours, not the paper's. Both posteriors see the same film; their mean is steadier than the forecast alone,
    whose sampling adds noise.

    Args:
        p_now: [..., 5].
        p_12m: [..., 5], the mean over the sampled futures.
        grade: [...] integers 0..4, the reader's current grade.

    Returns:
        float64 [...], in 0..1; 0 for grade 4.
    """
    mean_above = (above_each_grade(p_now) + above_each_grade(p_12m)) / 2
    index = np.asarray(grade, dtype=np.intp)[..., None]
    return np.asarray(np.take_along_axis(mean_above, index, axis=-1)[..., 0])
