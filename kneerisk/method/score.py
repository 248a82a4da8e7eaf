"""A prediction → its risks: one probability, the same from the image alone, and the paper's sum."""

from __future__ import annotations

import numpy as np

from kneerisk.method.calibration import Calibration
from kneerisk.method.risk import hazards_of, risk_of_rise
from kneerisk.records import KneePrediction, KneeScore


def score(prediction: KneePrediction, calibration: Calibration) -> KneeScore:
    """All risks of one predicted knee.

    ``risk_12m`` is given the reader's grade where the knee brings one, else from the image.  The interval is
    the 2.5th to 97.5th percentile of that risk over the sampled futures: the spread of the forecast, not of
    the calibration; ``None`` with one sample.
    """
    p_now = prediction.p_now.astype(np.float64)
    each = hazards_of(prediction.moves)
    grade = prediction.crop.ref.kl_0m
    image = float(calibration.from_image(each.mean(axis=0), p_now))
    risk, futures = image, calibration.from_image(each, p_now)
    if grade is not None:
        risk = float(calibration.given_grade(each.mean(axis=0), grade))
        futures = calibration.given_grade(each, np.full(len(each), grade))
    low = high = None
    if len(futures) > 1:
        low, high = (float(v) for v in np.percentile(futures, (2.5, 97.5)))
    return KneeScore(
        prediction=prediction,
        risk_12m=risk,
        risk_12m_basis="image" if grade is None else "grade",
        risk_12m_lo=low,
        risk_12m_hi=high,
        risk_12m_image=image,
        risk_12m_sum=float(risk_of_rise(p_now, prediction.p_12m.astype(np.float64).mean(axis=0))),
        qc_flags=prediction.crop.qc_flags,
    )
