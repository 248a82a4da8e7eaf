"""A prediction → its risks: the paper's sum, calibrated, over sampled futures, and given a reader's grade."""

from __future__ import annotations

import numpy as np

from kneerisk.method.calibration import Calibration
from kneerisk.method.risk import evidence_above, risk_of_rise
from kneerisk.records import KneePrediction, KneeScore


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
