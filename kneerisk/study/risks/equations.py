"""Logistic equations of an outcome: from the image's P(KL now), a reader's grade, and the other knee.

Form: P(outcome by ``months``) = 1 / (1 + exp(-(intercept + Σ coefficient · feature))). They ship with a stack
as ``outcomes.json``, and hold for that stack's posteriors and the population that they were fitted to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.errors import StackError
from kneerisk.study.outcomes import MONTHS, Outcome, at_risk, observed

Array = npt.NDArray[np.float64]

FORMAT = 1
BASES = ("grade+other", "grade", "image+other", "image")
"""What a risk may stand on, the best first."""
FORM = (
    "P(outcome by `months`) = 1 / (1 + exp(-(intercept + sum of coefficient x feature))); knees of a grade "
    "with nowhere to go have 0"
)
FEATURES = {
    "logit_pI": "logit of the image's P(KL = I now), clipped to 1e-4 … 1 - 1e-4",
    "expected": "sum of I x P(KL = I now)",
    "expected_squared": "its square",
    "entropy": "of the image's P(KL now), natural logarithm",
    "grade_G": "1 where the reader's grade now is G",
    "logit_above": "logit of the image's P(KL now > the reader's grade), clipped alike",
    "expected_minus_grade": "expected - the reader's grade",
    "other_expected": "expected of the same participant's other knee, same visit",
    "other_expected_squared": "its square",
    "difference": "|expected - other_expected|",
    "other_grade": "the reader's grade of the other knee",
    "other_oa": "1 where that is 2 or more",
}
_IMAGE = (*(f"logit_p{i}" for i in range(5)), "expected", "expected_squared", "entropy")
_GRADE = (*(f"grade_{g}" for g in range(4)), "logit_above", "expected_minus_grade")
TAKES = {
    "image": _IMAGE,
    "image+other": (*_IMAGE, "other_expected", "other_expected_squared", "difference"),
    "grade": _GRADE,
    "grade+other": (*_GRADE, "other_grade", "other_oa"),
}
"""The features of each basis."""

_CLIP = 1e-4
_SURE = 0.95
_FEWEST_EVENTS = 40
_FEWEST_KNEES = 20


@dataclass(frozen=True)
class Knees:
    """What equations look at, of N knees; NaN where it is not known."""

    posterior: Array
    """[N, 5], the image's P(KL now)."""
    grade: Array
    """[N], the reader's grade now, 0..4."""
    other_posterior: Array
    """[N, 5], of the participant's other knee at the same visit."""
    other_grade: Array
    """[N]"""
    _features: dict[str, Array] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.grade)

    def take(self, index: npt.NDArray[Any]) -> Knees:
        """Some of them."""
        return Knees(
            self.posterior[index], self.grade[index], self.other_posterior[index], self.other_grade[index]
        )

    def feature(self, name: str) -> Array:
        """One feature of every knee, [N]; NaN where what it needs is not known; made once."""
        if name not in self._features:
            self._features[name] = self._made(name)
        return self._features[name]

    def _made(self, name: str) -> Array:
        expected, other = _expected(self.posterior), _expected(self.other_posterior)
        if name.startswith("logit_p"):
            found = _logit(self.posterior[:, int(name[-1])])
        elif name.startswith("grade_"):
            found = _flag(self.grade == int(name[-1]), self.grade)
        elif name == "logit_above":
            above = np.arange(5) > self.grade[:, None]
            found = _logit(np.where(above, self.posterior, 0.0).sum(axis=1)) + 0 * self.grade
        elif name == "entropy":
            found = _entropy(self.posterior)
        elif name == "other_oa":
            found = _flag(self.other_grade >= 2, self.other_grade)
        else:
            found = {
                "expected": expected,
                "expected_squared": expected**2,
                "expected_minus_grade": expected - self.grade,
                "other_expected": other,
                "other_expected_squared": other**2,
                "difference": np.abs(expected - other),
                "other_grade": self.other_grade,
            }[name]
        return np.asarray(found)


@dataclass(frozen=True)
class Equation:
    """One outcome, by one horizon, from one basis."""

    outcome: Outcome
    months: int
    kind: str
    """The basis, one of :data:`BASES`."""
    knees: int
    events: int
    intercept: float
    coefficients: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.coefficients) != set(TAKES.get(self.kind, ())):
            raise ValueError(f"an equation of basis {self.kind!r} takes {TAKES.get(self.kind)}")

    def probability(self, knees: Knees) -> Array:
        """[N]; NaN where a feature is not known; knees that cannot have the outcome are not looked at."""
        total = np.full(len(knees), self.intercept)
        for name, coefficient in self.coefficients.items():
            total += coefficient * knees.feature(name)
        return np.asarray(1 / (1 + np.exp(-total)))


@dataclass(frozen=True)
class Rates:
    """For want of an equation: how often knees of each grade have the outcome."""

    outcome: Outcome
    months: int
    by_grade: tuple[float, ...]
    """Of grades 0 to 4."""

    def probability(self, knees: Knees, kind: str) -> Array:
        """[N], by the reader's grade or, from the image, over its P(KL now); NaN where that is not known."""
        rates = np.asarray(self.by_grade)
        if kind == "image":
            return np.asarray(knees.posterior @ rates)
        known = ~np.isnan(knees.grade)
        return np.where(known, rates[np.where(known, knees.grade, 0).astype(np.intp)], np.nan)


@dataclass(frozen=True)
class Equations:
    """All equations of a stack."""

    population: str
    """Whose readings they were fitted to, in words."""
    fit: str
    """How, in words."""
    posteriors: str
    """Name and version of the stack whose posteriors they take: ``compact-0.3.0``."""
    equations: tuple[Equation, ...]
    rates: tuple[Rates, ...] = ()
    _index: dict[tuple[Outcome, int, str], Equation] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {(e.outcome, e.months, e.kind): e for e in self.equations}
        object.__setattr__(self, "_index", index)

    def horizons(self, outcome: Outcome) -> tuple[int, ...]:
        """Months at which the outcome is known."""
        by_equation = {e.months for e in self.equations if e.outcome is outcome}
        by_rate = {r.months for r in self.rates if r.outcome is outcome}
        return tuple(sorted(by_equation | by_rate))

    def risk(
        self, outcome: Outcome, months: int, knees: Knees, bases: Sequence[str] = BASES
    ) -> tuple[Array, npt.NDArray[np.str_]]:
        """P(outcome within ``months``) of each knee, on the best basis that it has.

        By a reader's grade, a knee of a grade that cannot have the outcome has 0. From the image alone the
        risk is that of a knee which a reader places where it can, and 0 where the image is sure (P of at
        least 0.95) that it cannot.

        Returns:
            Risks float64 [N], NaN where no basis is known; and the bases, [N], empty there.

        Raises:
            KeyError: there is no equation for outcome and horizon.
        """
        if months not in self.horizons(outcome):
            raise KeyError((outcome, months))
        risks = np.full(len(knees), np.nan)
        used = np.full(len(knees), "", dtype="<U11")
        able = at_risk(outcome, knees.grade)
        below = knees.posterior[:, : outcome.highest_at_risk + 1].sum(axis=1)
        scored = ~np.isnan(below)
        for kind in bases:
            if not np.isnan(risks[scored]).any():
                break
            by_grade = kind.startswith("grade")
            nowhere = (~np.isnan(knees.grade) & ~able) if by_grade else below <= 1 - _SURE
            found = self._probability(outcome, months, kind, knees)
            found = np.where(nowhere & ~np.isnan(found), 0.0, found)
            take = np.isnan(risks) & ~np.isnan(found)
            risks[take], used[take] = found[take], kind
        return risks, used

    def _probability(self, outcome: Outcome, months: int, kind: str, knees: Knees) -> Array:
        if (equation := self._index.get((outcome, months, kind))) is not None:
            return equation.probability(knees)
        rates = next((r for r in self.rates if (r.outcome, r.months) == (outcome, months)), None)
        if rates is None or kind not in ("image", "grade"):
            return np.full(len(knees), np.nan)
        return rates.probability(knees, kind)

    def to_json(self) -> dict[str, Any]:
        """As ``outcomes.json`` holds it."""
        return {
            "format": FORMAT,
            "population": self.population,
            "fit": self.fit,
            "posteriors": self.posteriors,
            "form": FORM,
            "features": FEATURES,
            "equations": [
                {
                    "outcome": e.outcome.value,
                    "months": e.months,
                    "kind": e.kind,
                    "knees": e.knees,
                    "events": e.events,
                    "intercept": e.intercept,
                    "coefficients": dict(e.coefficients),
                }
                for e in self.equations
            ],
            "rates": [
                {"outcome": r.outcome.value, "months": r.months, "by_grade": list(r.by_grade)}
                for r in self.rates
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Equations:
        """Read what :meth:`to_json` gave; StackError where it is damaged or of another format."""
        if data.get("format") != FORMAT:
            raise StackError(
                f"outcomes.json has format {data.get('format')!r}, this kneerisk reads {FORMAT}; "
                "use the stack that came with this version"
            )
        try:
            equations = tuple(
                Equation(
                    Outcome(e["outcome"]),
                    int(e["months"]),
                    str(e["kind"]),
                    int(e["knees"]),
                    int(e["events"]),
                    float(e["intercept"]),
                    {str(name): float(value) for name, value in e["coefficients"].items()},
                )
                for e in data["equations"]
            )
            rates = tuple(
                Rates(Outcome(r["outcome"]), int(r["months"]), tuple(float(v) for v in r["by_grade"]))
                for r in data["rates"]
            )
            return cls(str(data["population"]), str(data["fit"]), str(data["posteriors"]), equations, rates)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StackError(f"outcomes.json is damaged ({error!r}); fetch the stack again") from error

    def dumps(self) -> str:
        """The file's text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def fit(
    knees: Knees,
    later: Mapping[int, Array],
    *,
    population: str,
    posteriors: str,
    outcomes: Sequence[Outcome] = tuple(Outcome),
) -> Equations:
    """Fit the equations of a stack to knees that were read at later visits.

    Logistic regression on standardised features with an L2 penalty of 1, one for each outcome, horizon and
    basis that has events enough (40); where it has not, the rates by grade stand in, from grades with 20
    knees or more.

    Args:
        knees: N knees of the stack's own posteriors, and their grades.
        later: months → [N] reader's grade at that visit, NaN where there is none.
        population: whose readings they are, in words.
        posteriors: the stack's name and version.
        outcomes: which to fit.
    """
    equations: list[Equation] = []
    rates: list[Rates] = []
    for outcome in outcomes:
        for months in sorted(set(later) & set(MONTHS)):
            event = observed(outcome, knees.grade, later[months])
            found = [_fit_one(outcome, months, kind, knees, event) for kind in TAKES]
            equations += [equation for equation in found if equation is not None]
            if all(equation is None for equation in found):
                rates += _rates(outcome, months, knees.grade, event)
    return Equations(
        population,
        "logistic regression on standardised features, L2 penalty 1, one for each outcome, horizon and basis",
        posteriors,
        tuple(equations),
        tuple(rates),
    )


def _fit_one(outcome: Outcome, months: int, kind: str, knees: Knees, event: Array) -> Equation | None:
    from sklearn.linear_model import LogisticRegression

    columns = np.column_stack([knees.feature(name) for name in TAKES[kind]])
    known = ~np.isnan(event) & ~np.isnan(columns).any(axis=1)
    x, y = columns[known], event[known]
    if min(y.sum(), (1 - y).sum()) < _FEWEST_EVENTS:
        return None
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    model = LogisticRegression(C=1.0, max_iter=1000, tol=1e-8).fit((x - centre) / scale, y)
    slopes = model.coef_[0] / scale
    return Equation(
        outcome,
        months,
        kind,
        len(y),
        int(y.sum()),
        round(float(model.intercept_[0] - slopes @ centre), 4),
        {name: round(float(slope), 4) for name, slope in zip(TAKES[kind], slopes, strict=True)},
    )


def _rates(outcome: Outcome, months: int, grade: Array, event: Array) -> list[Rates]:
    values = []
    for g in range(5):
        seen = event[(grade == g) & ~np.isnan(event)]
        if g > outcome.highest_at_risk:
            values.append(0.0)
        elif len(seen) < _FEWEST_KNEES:
            return []
        else:
            values.append(round(float(seen.mean()), 4))
    return [Rates(outcome, months, tuple(values))]


def _logit(p: Array) -> Array:
    clipped = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _expected(posterior: Array) -> Array:
    return np.asarray(posterior @ np.arange(5.0))


def _entropy(posterior: Array) -> Array:
    return np.asarray(-(posterior * np.log(np.maximum(posterior, 1e-12))).sum(axis=1))


def _flag(condition: npt.NDArray[np.bool_], known: Array) -> Array:
    return np.where(np.isnan(known), np.nan, condition.astype(np.float64))
