"""What an evaluation found: frozen records that turn into JSON or one flat table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its 95 % interval, or none and why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    """Why there is no value; ``None`` where there is one."""

    @classmethod
    def none(cls, reason: str) -> Figure:
        """No figure, and why."""
        return cls(None, reason=reason)


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """How one risk, or one baseline, does in one group of knees. All intervals are 95 %."""

    auc: Figure
    """Area under the ROC curve; the interval from a bootstrap over participants."""
    auc_delong: Figure
    """The same; the interval by DeLong's method, with knees of one participant taken together."""
    average_precision: Figure
    brier: Figure
    """Mean squared difference of risk and event; less is better."""
    scaled_brier: Figure
    """1 - Brier / Brier of the group's prevalence; 1 is perfect, 0 no better than the prevalence."""
    calibration_intercept: Figure
    """Calibration in the large: logit of the observed against that of the risks, slope 1; 0 is right."""
    calibration_slope: Figure
    """1 is right; below 1 the risks are too extreme."""
    ici: Figure
    """Mean distance of risk and smoothed observed frequency."""
    e50: Figure
    e90: Figure


@dataclass(frozen=True, slots=True)
class Difference:
    """The model's AUC less that of a baseline, on the same knees."""

    baseline: str
    auc: Figure
    """Interval from the bootstrap over participants, both scores on the same draws."""
    p_delong: float | None
    """Two-sided, by DeLong's method with knees of one participant taken together."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group of knees: all of them, or one value of a subgroup."""

    family: str
    """``all``, or what the knees are parted by: ``baseline KL``, ``sex`` …"""
    value: str
    knees: int
    participants: int
    events: int
    prevalence: float
    scores: Mapping[str, ScoreFigures]
    """``model`` first, then the baselines: ``baseline KL``, ``KL + age + sex``, ``prevalence``."""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One point of the reliability plot."""

    knees: int
    events: int
    risk: float
    """Mean risk."""
    observed: float
    low: float
    high: float
    """Wilson's 95 % interval of the observed frequency."""


@dataclass(frozen=True, slots=True)
class NetBenefit:
    """One threshold of the decision curve: true positives less weighted false positives, a knee."""

    threshold: float
    model: float
    treat_all: float
    baselines: Mapping[str, float]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What calling a knee positive from a risk upwards comes to."""

    threshold: float
    positives: int
    sensitivity: Figure
    specificity: Figure
    ppv: Figure
    npv: Figure


@dataclass(frozen=True, slots=True)
class GradeAgreement:
    """The image's grade against the reader's, at the start."""

    knees: int
    accuracy: Figure
    balanced_accuracy: Figure
    quadratic_kappa: Figure
    confusion: tuple[tuple[int, ...], ...]
    """Reader's grade by row, the image's by column."""


@dataclass(frozen=True, slots=True)
class LandmarkError:
    """Landmarks against marked ones (KNEEL's measures, arXiv 1907.12237)."""

    knees: int
    points: int
    mean_mm: float
    median_mm: float
    within_mm: Mapping[str, float]
    """Share of points within 1, 1.5, 2, 2.5 mm."""
    outliers: float
    """Share of points 10 mm or more away."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that an evaluation found."""

    outcome: str
    """Such as ``incident-oa``."""
    outcome_words: str
    months: int
    column: str
    """The risk that was evaluated."""
    level: str
    """``knee`` or ``participant``."""
    basis: Mapping[str, int]
    """What the risks stand on, and how many knees each: ``image``, ``grade+other`` …"""
    source: str
    labels: str
    stack: str | None
    population: str | None
    """Whom the risks were calibrated to."""
    excluded: Mapping[str, int]
    """Scored knees that took no part, by why."""
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    bootstraps: int
    seed: int
    overall: Group
    subgroups: tuple[Group, ...] = ()
    calibration_curve: tuple[CalibrationBin, ...] = ()
    decision_curve: tuple[NetBenefit, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()
    grades: GradeAgreement | None = None
    landmarks: LandmarkError | None = None
    format: int = field(default=1)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every figure as one flat row, with its group, score, measure, interval, counts and reason."""
        for group in (self.overall, *self.subgroups):
            head = {"family": group.family, "group": group.value}
            tail = {"knees": group.knees, "events": group.events}
            for name, figures in group.scores.items():
                for measure in ScoreFigures.__slots__:
                    yield {
                        **head,
                        "score": name,
                        "measure": measure,
                        **asdict(getattr(figures, measure)),
                        **tail,
                    }
            for difference in group.differences:
                measure = f"auc_less_{difference.baseline}"
                yield {**head, "score": "model", "measure": measure, **asdict(difference.auc), **tail}
