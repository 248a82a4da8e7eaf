"""A prediction → its risks: one probability, the same from the image alone, and the paper's sum."""

from __future__ import annotations

import numpy as np

from kneerisk.method.calibration import Calibration
from kneerisk.method.grade import median_grade
from kneerisk.method.recalibration import Recalibration
from kneerisk.method.risk import hazards_of, risk_of_rise
from kneerisk.records import KneePrediction, KneeScore


def score(
    prediction: KneePrediction, calibration: Calibration, recalibration: Recalibration | None = None
) -> KneeScore:
    """All risks of one predicted knee.

    ``risk_12m`` is given the reader's grade where the knee brings one, else from the image.  The interval is
    the 2.5th to 97.5th percentile of that risk over the sampled futures: the spread of the forecast, not of
    the calibration; ``None`` with one sample.

    ``recalibration`` maps the headline and its interval to a cohort's own rates, as ``derive`` does to a
    table (by grade: the reader's, else the image's). ``risk_12m_image`` and the sum stay the stack's, so that
    alarms and other cohorts' tables compare like with like.
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
    if recalibration is not None:
        known = int(median_grade(p_now)) if grade is None else grade
        risk = float(recalibration.apply(risk, known))
        low, high = (None if v is None else float(recalibration.apply(v, known)) for v in (low, high))
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
