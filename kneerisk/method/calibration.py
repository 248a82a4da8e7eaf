"""What the networks say of a rise → a probability whose mean, grade by grade, is a stated population's rate.

The later classifier answers h[i] = P(the grade rises within twelve months | the grade now is i), its hazards.
The maths (ours), with p the image's posterior of the grade now:

    risk given a reader's grade g  =  c[g];              c[i] = sigmoid(a[i] + b · logit(h[i])),  c[4] = 0
    risk from the image alone      =  Σ_i p[i] · c[i]

so the two are one risk: the second is the first averaged over what the image leaves open.

Intercepts are solved so that the mean over the fitting knees that a reader gave grade g is that grade's rate.
Rates say nothing of the slope b; it gives c the spread that a risk of that kind is known to have within a
grade, as the standard deviation of its logit: that of the outcome's equations or, where a cohort's own pairs
of visits tell how well h discriminates, d' = sqrt(2) · Phi^-1(AUC) of the binormal model.  Both the spread
and where it is from are recorded in the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import StackError
from kneerisk.method.grade import median_grade

Array = npt.NDArray[np.float64]
FORMAT = 3
GRADES = 5
RISING = GRADES - 1
"""Grades 0 to 3: those with somewhere to rise to."""
_EPSILON = 1e-6
_BOUND = 30.0
"""Intercepts are sought within ± this many logits."""


@dataclass(frozen=True)
class Logistic:
    """sigmoid(intercept of the grade + slope · logit(hazard))."""

    slope: float
    intercepts: tuple[float, ...]
    """Of grades 0 to 3."""
    spread: float
    """Standard deviation of the risk's logit within a grade, that the slope was set by."""
    spread_of: str
    """Where that is from, in words."""

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"slope must be above 0, or the order of risks is lost; got {self.slope}")
        if len(self.intercepts) != RISING:
            raise ValueError(f"intercepts are needed for grades 0 to 3; got {len(self.intercepts)}")

    def by_grade(self, hazards: npt.ArrayLike) -> Array:
        """Hazards [..., 5] → risks [..., 5] of the grade that the knee might have; the last is 0."""
        x = _logit(np.asarray(hazards, dtype=np.float64)[..., :RISING])
        risks = _sigmoid(np.asarray(self.intercepts) + self.slope * x)
        return np.concatenate([risks, np.zeros_like(risks[..., :1])], axis=-1)


@dataclass(frozen=True)
class Usual:
    """What the fitting knees look like; a cohort far from it raises an alarm (:mod:`.alarms`)."""

    novelty: float
    """Mean of the encoder's novelty."""
    grades: tuple[float, ...]
    """Shares of knees by the image's grade, 0 to 4."""
    risk: float
    """Mean risk from the image alone."""


@dataclass(frozen=True)
class Calibration:
    """How hazards become probabilities, and of whom."""

    population: str
    """Whose rates these are, in words: a risk means nothing without it."""
    rates: tuple[float, ...]
    """P(grade rises within 12 months) of grades 0 to 4 in that population."""
    hazard: Logistic
    novelty_threshold: float | None = None
    """The encoder's novelty above which a knee is flagged ``unusual-appearance``; ``None`` flags nothing."""
    usual: Usual | None = None
    """Of the fitting knees; ``None`` raises no alarm."""
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    """The fitting knees by grade, their mean risks, and how the joins of the two posteriors compare."""

    def given_grade(self, hazards: npt.ArrayLike, grade: npt.ArrayLike) -> Array:
        """Hazards [..., 5], a reader's grade [...] (0..4) → P(it rises within 12 months), float64 [...]."""
        index = np.asarray(grade, dtype=np.intp)[..., None]
        return np.asarray(np.take_along_axis(self.hazard.by_grade(hazards), index, axis=-1)[..., 0])

    def from_image(self, hazards: npt.ArrayLike, p_now: npt.ArrayLike) -> Array:
        """Hazards [..., 5] and the image's posterior [..., 5] → P(a rise within 12 months), float64 [...]."""
        risks = np.asarray(p_now, dtype=np.float64) * self.hazard.by_grade(hazards)
        return np.asarray(np.clip(risks.sum(axis=-1), 0.0, 1.0))

    def to_json(self) -> str:
        """As ``calibration.json`` holds it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_json` wrote.

        Raises:
            StackError: another format, or a field is missing or out of range.
        """
        if data.get("format") != FORMAT:
            raise StackError(
                f"calibration.json has format {str(data.get('format'))[:40]}, this kneerisk reads {FORMAT}; "
                "use the stack that came with this version"
            )
        try:
            hazard, usual = data["hazard"], data.get("usual")
            threshold = data.get("novelty_threshold")
            return cls(
                population=str(data["population"]),
                rates=_floats(data["rates"], GRADES),
                hazard=Logistic(
                    _finite(hazard["slope"]),
                    _floats(hazard["intercepts"], RISING),
                    _finite(hazard["spread"]),
                    str(hazard["spread_of"]),
                ),
                novelty_threshold=None if threshold is None else _finite(threshold),
                usual=None
                if usual is None
                else Usual(
                    _finite(usual["novelty"]), _floats(usual["grades"], GRADES), _finite(usual["risk"])
                ),
                fitted_on=dict(data.get("fitted_on", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            words = repr(error)[:200]
            raise StackError(f"calibration.json is damaged ({words}); fetch the stack again") from error

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a ``calibration.json``."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StackError(
                f"cannot read {path.name} of the stack: {error}; fetch the stack again"
            ) from error
        return cls.from_mapping(data)


def fit(
    hazards: npt.ArrayLike,
    p_now: npt.ArrayLike,
    kl: npt.ArrayLike,
    rates: Sequence[float],
    *,
    population: str,
    spread: float,
    spread_of: str,
    novelty: npt.ArrayLike | None = None,
) -> Calibration:
    """Fit the calibration on graded knees.

    Args:
        hazards: [N, 5], the mean over the sampled futures.
        p_now: [N, 5], the stack's posterior of the grade now.
        kl: [N] integers 0..4, the readers' grades of the same knees.
        rates: [5], P(grade rises within 12 months) by grade; that of grade 4 must be 0.
        population: whose rates they are, in words.
        spread: standard deviation of the risk's logit within a grade.
        spread_of: where that is from, in words.
        novelty: [N], the encoder's; its 99.9th percentile becomes the threshold of ``unusual-appearance``.

    Raises:
        ValueError: a grade 0 to 3 has no knee, or a rate is outside 0..1, or grade 4 has a rate.
    """
    h, now = np.asarray(hazards, dtype=np.float64), np.asarray(p_now, dtype=np.float64)
    grades = np.asarray(kl, dtype=np.intp)
    target = np.asarray(rates, dtype=np.float64)
    if target.shape != (GRADES,) or not ((target >= 0) & (target < 1)).all() or target[-1] != 0:
        raise ValueError(f"rates must be five values in [0, 1), the last 0 (KL 4 cannot rise); got {target}")
    missing = [g for g in range(RISING) if not (grades == g).any()]
    if missing:
        raise ValueError(f"no knee of KL {missing} to fit on: calibrate on a set that has every grade 0 to 3")
    if not spread > 0:
        raise ValueError(f"the spread of risks within a grade must be above 0; got {spread}")
    within = [_logit(h[grades == g, g]) for g in range(RISING)]
    # Hazards that do not vary must not be blown up into ones that do.
    slope = spread / max(spread_within(within), 0.1)
    intercepts = [_solve(slope * x, rate) for x, rate in zip(within, target, strict=False)]
    hazard = Logistic(slope, tuple(intercepts), spread, spread_of)
    calibration = Calibration(population, tuple(float(v) for v in target), hazard)
    image, given = calibration.from_image(h, now), calibration.given_grade(h, grades)
    seen = None if novelty is None else np.asarray(novelty, dtype=np.float64)
    shares = np.bincount(median_grade(now), minlength=GRADES) / len(now)
    return Calibration(
        population,
        calibration.rates,
        hazard,
        None if seen is None else round(float(np.quantile(seen, 0.999)), 4),
        None
        if seen is None
        else Usual(
            round(float(seen.mean()), 4), tuple(round(float(v), 4) for v in shares), float(image.mean())
        ),
        {
            "knees_by_reader_grade": [int((grades == g).sum()) for g in range(GRADES)],
            "mean_risk_given_grade": _means(given, grades),
            "mean_image_risk_by_reader_grade": _means(image, grades),
        },
    )


def rise_rates(transitions: npt.ArrayLike) -> Array:
    """P(grade later | grade now) [5, 5], rows summing to one → P(later > now) [5]."""
    return np.asarray(np.triu(np.asarray(transitions, dtype=np.float64), k=1).sum(axis=1))


def spread_within(logits: Sequence[npt.ArrayLike]) -> float:
    """Standard deviation within grades, from the logits of each grade's knees."""
    return float(np.sqrt(np.mean([np.var(np.asarray(x)) for x in logits])))


def spread_of_auc(auc: float) -> float:
    """The d' = sqrt(2) · Phi^-1(AUC) of a score that discriminates so well within a grade."""
    if not 0.5 < auc < 1:
        raise ValueError(f"an AUC to set the slope by lies between 0.5 and 1; got {auc}")
    return float(2**0.5 * NormalDist().inv_cdf(auc))


def _means(risks: Array, grades: npt.NDArray[np.intp]) -> list[float | None]:
    return [
        round(float(risks[grades == g].mean()), 6) if (grades == g).any() else None for g in range(GRADES)
    ]


def _solve(x: Array, rate: float) -> float:
    """The intercept with which the mean of sigmoid(intercept + x) is the rate: the mean rises with it."""
    low, high = -_BOUND, _BOUND
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(middle + x).mean() < rate else (low, middle)
    return (low + high) / 2


def _floats(values: Sequence[Any], count: int) -> tuple[float, ...]:
    """That many numbers, none of them infinite or not a number."""
    if isinstance(values, str) or len(values) != count:
        raise ValueError(f"{count} numbers are needed in a list")
    return tuple(map(_finite, values))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number to reckon with")
    return number


def _logit(p: Array) -> Array:
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(x: npt.ArrayLike) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, dtype=np.float64))))
