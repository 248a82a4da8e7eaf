"""Raw risks → probabilities: among the knees of one grade, their mean is a stated population's rate of rises.

The maths (ours). With x = logit(raw risk) and p the image's posterior of the grade now,

    calibrated = sum over g < 4 of w[g] · sigmoid(a[g] + b · x);      grade 4 adds nothing: it cannot rise;
    w[g] = p[g]^k / sum over h of p[h]^k.

The same logistic form serves a knee whose reader's grade g is known, on the evidence e that the image places
it higher:

    risk given grade = sigmoid(a'[g] + b' · logit(e));                  0 for g = 4.

Intercepts are solved so that, among the fitting knees of each grade, the mean risk is that grade's rate: by
the grade that each risk knows, the image's own (its most probable) for the first, the reader's for the other.
To demand the first by the reader's grade would be to ask of the image what it does not show: where posteriors
overlap, no risks in 0..1 can meet it. What it comes to by reader's grade is kept in ``fitted_on``.
For the same reason the posterior is sharpened: k is the least of ``SHARPNESS`` for which all four means can
be met; with k = 1 a grade's knees may lend too much of their risk to the neighbouring grades.

Rates alone say nothing of the slope, and a classifier's own spread is far too confident for a rare outcome;
so the slope is set by how well such a score is known to discriminate: a logistic score whose standard
deviation within a grade is d' has, under the binormal model, AUC = Phi(d' / sqrt 2). Both AUCs are recorded
in the file. A positive slope keeps the raw order at a given posterior.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import StackError
from kneerisk.method.risk import evidence_above, risk_of_rise

Array = npt.NDArray[np.float64]
FORMAT = 2
GRADES = 5
RISING = GRADES - 1
"""Grades 0 to 3: those with somewhere to rise to."""
SHARPNESS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Powers of the posterior that are tried."""
_EPSILON = 1e-6
_BOUND = 30.0
"""Intercepts are sought within ± this many logits."""
_MET = 1e-6
"""A mean is met if it is off by at most this share of its rate."""


@dataclass(frozen=True)
class Logistic:
    """sigmoid(intercept of the grade + slope · logit(score))."""

    slope: float
    intercepts: tuple[float, ...]
    """Of grades 0 to 3."""
    auc: float
    """The discrimination that the slope was set by."""

    def __post_init__(self) -> None:
        if not self.slope > 0:
            raise ValueError(f"slope must be above 0, or the order of risks is lost; got {self.slope}")
        if len(self.intercepts) != RISING:
            raise ValueError(f"intercepts are needed for grades 0 to 3; got {len(self.intercepts)}")

    def by_grade(self, score: npt.ArrayLike) -> Array:
        """Scores [...] in 0..1 → risks [..., 5], one for each grade the knee might have; the last is 0."""
        x = _logit(np.asarray(score, dtype=np.float64))[..., None]
        risks = _sigmoid(np.asarray(self.intercepts) + self.slope * x)
        return np.concatenate([risks, np.zeros_like(risks[..., :1])], axis=-1)


@dataclass(frozen=True)
class Calibration:
    """How raw risks become probabilities, and of whom."""

    population: str
    """Whose rates these are, in words: a calibrated risk means nothing without it."""
    rates: tuple[float, ...]
    """P(grade rises within 12 months) of grades 0 to 4 in that population."""
    image: Logistic
    """For ``risk_12m_calibrated``."""
    given_grade: Logistic
    """For ``risk_12m_given_grade``."""
    sharpness: float = 1.0
    """The power k of the grade posterior in ``risk_12m_calibrated``."""
    novelty_threshold: float | None = None
    """The encoder's novelty above which a knee is flagged ``unusual-appearance``; ``None`` flags nothing."""
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    """The fitting knees by grade, and the mean calibrated risk by the image's and by the reader's grade."""

    def risk(self, raw: npt.ArrayLike, p_now: npt.ArrayLike) -> Array:
        """Raw risk [...] and grade posterior [..., 5] → calibrated risk, float64 [...] in 0..1."""
        weights = _sharpened(np.asarray(p_now, dtype=np.float64), self.sharpness)
        return np.asarray(np.clip((weights * self.image.by_grade(raw)).sum(axis=-1), 0.0, 1.0))

    def risk_given_grade(self, evidence: npt.ArrayLike, grade: npt.ArrayLike) -> Array:
        """Evidence [...] above a reader's grade [...] (0..4) → P(grade at 12 months > it), float64 [...]."""
        index = np.asarray(grade, dtype=np.intp)[..., None]
        return np.asarray(np.take_along_axis(self.given_grade.by_grade(evidence), index, axis=-1)[..., 0])

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
                f"calibration.json has format {data.get('format')!r}, this kneerisk reads {FORMAT}; "
                "use the stack that came with this version"
            )
        try:
            return cls(
                population=str(data["population"]),
                rates=tuple(float(v) for v in data["rates"]),
                image=_logistic(data["image"]),
                given_grade=_logistic(data["given_grade"]),
                sharpness=float(data["sharpness"]),
                novelty_threshold=None
                if data.get("novelty_threshold") is None
                else float(data["novelty_threshold"]),
                fitted_on=dict(data.get("fitted_on", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StackError(f"calibration.json is damaged ({error!r}); fetch the stack again") from error

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
    p_now: npt.ArrayLike,
    p_12m: npt.ArrayLike,
    kl: npt.ArrayLike,
    rates: Sequence[float],
    *,
    population: str,
    auc_image: float = 0.60,
    auc_given_grade: float = 0.68,
    novelty_threshold: float | None = None,
) -> Calibration:
    """Fit the calibration on graded knees.

    Args:
        p_now: [N, 5], the stack's posterior of the grade now.
        p_12m: [N, 5], the mean over the sampled futures.
        kl: [N] integers 0..4, the readers' grades of the same knees.
        rates: [5], P(grade rises within 12 months) by grade; that of grade 4 must be 0.
        population: whose rates they are, in words.
        auc_image: how well a risk from the image alone is known to discriminate (defaults: measured on real
            knees).
        auc_given_grade: the same where a reader's grade is given.
        novelty_threshold: kept beside the calibration; say, the 99.9th percentile of the encoder's novelty on
            these knees.

    Raises:
        ValueError: a grade 0 to 3 has no knee, or a rate is outside 0..1, or grade 4 has a rate.
    """
    now, future = np.asarray(p_now, dtype=np.float64), np.asarray(p_12m, dtype=np.float64)
    grades = np.asarray(kl, dtype=np.intp)
    target = np.asarray(rates, dtype=np.float64)
    if target.shape != (GRADES,) or not ((target >= 0) & (target < 1)).all() or target[-1] != 0:
        raise ValueError(f"rates must be five values in [0, 1), the last 0 (KL 4 cannot rise); got {target}")
    missing = [g for g in range(RISING) if not (grades == g).any()]
    if missing:
        raise ValueError(f"no knee of KL {missing} to fit on: calibrate on a set that has every grade 0 to 3")

    raw = risk_of_rise(now, future)
    for sharpness in SHARPNESS:
        weights = _sharpened(now, sharpness)
        image, miss = _fit_mixture(raw, weights, grades, target, auc_image)
        if miss < _MET:
            break
    evidence = evidence_above(now, future, grades)
    given = _fit_single(evidence, grades, target, auc_given_grade)
    reached = (weights * image.by_grade(raw)).sum(axis=-1)
    fitted_on = {
        "knees_by_reader_grade": [int((grades == g).sum()) for g in range(GRADES)],
        "mean_by_image_grade": _means(reached, now.argmax(axis=1)),
        "mean_by_reader_grade": _means(reached, grades),
    }
    return Calibration(
        population,
        tuple(float(v) for v in target),
        image,
        given,
        sharpness,
        novelty_threshold,
        fitted_on,
    )


def rise_rates(transitions: npt.ArrayLike) -> Array:
    """P(grade later | grade now) [5, 5], rows summing to one → P(later > now) [5]."""
    return np.asarray(np.triu(np.asarray(transitions, dtype=np.float64), k=1).sum(axis=1))


def _means(risks: Array, grades: npt.NDArray[np.intp]) -> list[float | None]:
    return [
        round(float(risks[grades == g].mean()), 6) if (grades == g).any() else None for g in range(GRADES)
    ]


def _fit_single(score: Array, grades: npt.NDArray[np.intp], target: Array, auc: float) -> Logistic:
    """One intercept a grade, each by bisection: the mean rises with the intercept."""
    x = _logit(score)
    slope = _slope(x, grades, auc)
    intercepts = [
        _bisect(lambda a, xs=x[grades == g]: _sigmoid(a + slope * xs).mean(), target[g])
        for g in range(RISING)
    ]
    return Logistic(slope, tuple(intercepts), auc)


def _fit_mixture(
    raw: Array, p_now: Array, grades: npt.NDArray[np.intp], target: Array, auc: float
) -> tuple[Logistic, float]:
    """Four coupled intercepts: a grade's knees lend probability to its neighbours (Levenberg-Marquardt).

    Returns them with the largest miss of a mean, relative to its rate.
    """
    x = _logit(raw)
    slope = _slope(x, grades, auc)
    first = p_now.argmax(axis=1)[:, None] == np.arange(RISING)
    weights = np.where(first.any(axis=0), first, p_now[:, :RISING])
    weights = (weights / np.maximum(weights.sum(axis=0), _EPSILON)).T
    # A group sums over all grades that its knees may have; a grade that the image never puts first has no
    # group, and its own term alone, weighted by its posterior, is to meet its rate.
    couples = np.where(first.any(axis=0)[:, None], 1.0, np.eye(RISING))[:, None, :]
    parts_of = np.where(first.any(axis=0)[:, None, None], p_now[None, :, :RISING], 1.0) * couples
    intercepts = np.array([_bisect(lambda a: float(_sigmoid(a)), target[g]) for g in range(RISING)])
    intercepts -= slope * (weights @ x)

    def means_and_jacobian(a: Array) -> tuple[Array, Array]:
        risk = _sigmoid(a + slope * x[:, None])
        means = np.einsum("gn,gnh,nh->g", weights, parts_of, risk)
        return means, np.einsum("gn,gnh,nh->gh", weights, parts_of, risk * (1 - risk))

    damping = 1e-3
    means, jacobian = means_and_jacobian(intercepts)
    scale = np.maximum(target[:RISING], 1e-3)  # relative errors: a rate of 0.04 counts as much as one of 0.1
    for _ in range(500):
        residual = (target[:RISING] - means) / scale
        if np.abs(residual).max() < 1e-9:
            break
        j = jacobian / scale[:, None]
        step = np.linalg.solve(j.T @ j + damping * np.eye(RISING), j.T @ residual)
        trial = np.clip(intercepts + np.clip(step, -2, 2), -_BOUND, _BOUND)
        trial_means, trial_jacobian = means_and_jacobian(trial)
        better = np.square((target[:RISING] - trial_means) / scale).sum() < np.square(residual).sum()
        if better:
            intercepts, means, jacobian = trial, trial_means, trial_jacobian
            damping = max(damping / 3, 1e-12)
        else:
            damping *= 4
            if damping > 1e9:
                break
    miss = float(np.abs((target[:RISING] - means) / scale).max())
    return Logistic(slope, tuple(float(v) for v in intercepts), auc), miss


def _sharpened(posterior: Array, power: float) -> Array:
    """Distributions [..., 5] raised to a power, and summing to one again."""
    raised = (posterior / posterior.max(axis=-1, keepdims=True)) ** power
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _slope(x: Array, grades: npt.NDArray[np.intp], auc: float) -> float:
    """The slope that gives the score the spread d' = sqrt(2) · Phi^-1(AUC) within a grade."""
    if not 0.5 < auc < 1:
        raise ValueError(f"an AUC to set the slope by lies between 0.5 and 1; got {auc}")
    within = [x[grades == g] for g in range(RISING)]
    spread = float(np.sqrt(np.mean([np.var(v) for v in within])))
    wanted = 2**0.5 * NormalDist().inv_cdf(auc)
    return wanted / max(spread, 0.1)  # a score that does not vary must not be blown up into one that does


def _bisect(mean: Any, target: float) -> float:
    low, high = -_BOUND, _BOUND
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < target else (low, middle)
    return (low + high) / 2


def _logistic(data: Mapping[str, Any]) -> Logistic:
    return Logistic(float(data["slope"]), tuple(float(v) for v in data["intercepts"]), float(data["auc"]))


def _logit(p: Array) -> Array:
    clipped = np.clip(p, _EPSILON, 1 - _EPSILON)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _sigmoid(x: npt.ArrayLike) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.asarray(x, dtype=np.float64))))
