"""Risk of progression from two grade posteriors.

The sum is Butler, Hilton & Carneiro (MICCAI 2025, arXiv 2506.14560), Eq. 3-4. It takes the grade now and the grade
at twelve months as independent given the image: two flat posteriors give 0.40, so it is a score until calibrated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kneerisk.records import KL_GRADES, KneePrediction, KneeScore
from kneerisk.scoring.calibration import Calibration

Array = npt.NDArray[np.float64]
TOP_GRADE = KL_GRADES[-1]


def risk_of_rise(p_now: npt.ArrayLike, p_12m: npt.ArrayLike) -> Array:
    """P(grade at 12 months > grade now) = sum_i p_now[i] · sum_{j>i} p_12m[j] (arXiv 2506.14560, Eq. 3-4).

    Args:
        p_now: [..., 5], sums to one over the last axis.
        p_12m: [..., 5], broadcast against ``p_now``.

    Returns:
        float64 [...], in 0..1.
    """
    now = np.asarray(p_now, dtype=np.float64)
    return np.asarray((now * above_each_grade(p_12m)).sum(axis=-1))


def above_each_grade(p: npt.ArrayLike) -> Array:
    """P(grade > i) for each grade i: [..., 5] → float64 [..., 5], the last always 0."""
    posterior = np.asarray(p, dtype=np.float64)
    above = np.zeros_like(posterior)
    above[..., :-1] = np.cumsum(posterior[..., :0:-1], axis=-1)[..., ::-1]
    return above


def evidence_above(p_now: npt.ArrayLike, p_12m: npt.ArrayLike, grade: npt.ArrayLike) -> Array:
    """How far the image places the knee above a reader's grade: mean of P(now > g) and P(12 months > g).

    Ours, not the paper's. Both posteriors see the same film; their mean is steadier than the forecast alone, whose
    sampling adds noise.

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


def score(prediction: KneePrediction, calibration: Calibration) -> KneeScore:
    """All risks of one predicted knee.

    The interval is the 2.5th to 97.5th percentile of the raw risk over the sampled futures: the spread of the
    forecast, not of the calibration; ``None`` with one sample.
    """
    p_now = prediction.p_now.astype(np.float64)
    p_12m = prediction.p_12m.astype(np.float64).mean(axis=0)
    raw = float(risk_of_rise(p_now, p_12m))
    low = high = None
    if len(prediction.p_12m) > 1:
        futures = risk_of_rise(p_now, prediction.p_12m)
        low, high = (float(v) for v in np.percentile(futures, (2.5, 97.5)))
    grade = prediction.crop.ref.kl_0m
    given = None
    if grade is not None:
        given = float(calibration.risk_given_grade(evidence_above(p_now, p_12m, grade), grade))
    return KneeScore(
        prediction=prediction,
        risk_12m=raw,
        risk_12m_calibrated=float(calibration.risk(raw, p_now)),
        risk_12m_lo=low,
        risk_12m_hi=high,
        risk_12m_given_grade=given,
        qc_flags=prediction.crop.qc_flags,
    )
