"""The figures of a stack on a cohort's knees: grades, landmarks, reconstructions, risks against visits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from kneerisk.method.calibration import Calibration
from kneerisk.method.grade import median_grade
from kneerisk.method.predict import Forecast
from kneerisk.method.risk import hazards_of, monotone_rise, risk_of_rise
from kneerisk.stack.stack import Stack
from kneerisk.study.statistics.bootstrap import Counts, auc_of, codes_of
from kneerisk_train.data.data import TrainingData
from kneerisk_train.data.knees import Knees
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.publish.forecast import grade_crops, open_networks

_FEWEST_RISES = 15
"""Fewer rises than this tell no discrimination."""
_BOOTSTRAPS = 500


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval, by a bootstrap over participants."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def measure(
    stack: Stack, forecasts: Mapping[str, Forecast], data: TrainingData
) -> dict[str, dict[str, object]]:
    """Figures of each split that was forecast."""
    return {
        split: split_figures(stack, forecast, data.knees[split], data.pairs[split])
        for split, forecast in forecasts.items()
    }


def split_figures(stack: Stack, forecast: Forecast, knees: Knees, pairs: VisitPairs) -> dict[str, object]:
    """Grades, landmarks, graded reconstructions and risks of one split."""
    graded = np.flatnonzero(knees.grade >= 0)
    figures: dict[str, object] = {
        "knees": len(graded),
        "participants": len(np.unique(knees.participant)),
        **grade_figures(forecast.p_now[graded], knees.grade[graded]),
        **landmark_figures(forecast.landmarks_now, knees),
    }
    with open_networks(stack) as networks:
        again = grade_crops(networks, networks.decode(forecast.latent[graded]))["kl"]
    figures["reconstructions_auc"] = one_against_rest_auc(again, knees.grade[graded])
    return figures | risk_figures(stack, forecast, knees, pairs)


def grade_figures(
    posterior: npt.NDArray[np.float32], grade: npt.NDArray[np.int64]
) -> dict[str, float | None]:
    """Accuracy, quadratic kappa, expected calibration error and mean one-against-rest AUC."""
    predicted = median_grade(posterior)
    return {
        "kl_accuracy": float((predicted == grade).mean()),
        "kl_quadratic_kappa": float(cohen_kappa_score(grade, predicted, weights="quadratic")),
        "kl_calibration_error": calibration_error(posterior, grade),
        "kl_auc": one_against_rest_auc(posterior, grade),
    }


def calibration_error(
    posterior: npt.NDArray[np.float32], grade: npt.NDArray[np.int64], bins: int = 15
) -> float:
    """Expected calibration error of the most probable grade (arXiv 1706.04599), equal bins of confidence."""
    sure = posterior.max(axis=1).astype(np.float64)
    right = posterior.argmax(axis=1) == grade
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(right[place == b].sum() - sure[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(grade))


def one_against_rest_auc(posterior: npt.NDArray[np.float32], grade: npt.NDArray[np.int64]) -> float | None:
    """Mean AUC over the grades that some knees have and some have not."""
    aucs = [
        roc_auc_score(grade == g, posterior[:, g])
        for g in range(posterior.shape[1])
        if 0 < (grade == g).sum() < len(grade)
    ]
    return float(np.mean(aucs)) if aucs else None


def landmark_figures(found: npt.NDArray[np.float32], knees: Knees) -> dict[str, float]:
    """KNEEL's measures (arXiv 1907.12237) on the knees whose landmarks and spacing are known."""
    if not (known := knees.measured).any():
        return {}
    distance = np.linalg.norm((found - knees.landmarks)[known] * knees.spacing[known][:, None], axis=-1)
    return {
        "landmarked_knees": int(known.sum()),
        "landmark_median_mm": float(np.median(distance)),
        **{f"landmarks_within_{mm}_mm": float((distance <= mm).mean()) for mm in (1, 1.5, 2, 2.5)},
        "landmark_outliers_10_mm": float((distance >= 10).mean()),
    }


def risk_figures(stack: Stack, forecast: Forecast, knees: Knees, pairs: VisitPairs) -> dict[str, object]:
    """Risks against the rises that were seen, where enough pairs of visits rise; knees of KL 4 left out."""
    can_rise = knees.grade[pairs.current] < 4
    now, later = pairs.current[can_rise], pairs.future[can_rise]
    rose = knees.grade[later] > knees.grade[now]
    figures: dict[str, object] = {"pairs": len(now), "rises": int(rose.sum())}
    if not _FEWEST_RISES <= rose.sum() <= len(rose) - _FEWEST_RISES:
        return figures
    calibration = Calibration.from_mapping(stack.calibration())
    p_now, p_12m, grade = forecast.p_now[now], forecast.p_12m[now].mean(axis=1), knees.grade[now]
    hazards = hazards_of(forecast.moves[now]).mean(axis=1)
    who = knees.participant[now]
    image, given = calibration.from_image(hazards, p_now), calibration.given_grade(hazards, grade)
    return figures | {
        "risk_sum_auc": auc_interval(risk_of_rise(p_now, p_12m), rose, who),
        "risk_monotone_auc": auc_interval(monotone_rise(p_now, p_12m), rose, who),
        "risk_image_auc": auc_interval(image, rose, who),
        "risk_given_grade_auc": auc_interval(given, rose, who),
        "grade_alone_auc": auc_interval(np.asarray(calibration.rates)[grade], rose, who),
        "risk_image_average_precision": float(average_precision_score(rose, image)),
        "prevalence": float(rose.mean()),
        "mean_risk_image": float(image.mean()),
    }


def auc_interval(
    score: npt.NDArray[np.float64], rose: npt.NDArray[np.bool_], who: npt.NDArray[np.str_]
) -> Interval:
    """AUC with a 95 % interval, whole participants drawn again and again."""
    rng = np.random.default_rng(0)
    people, owner = np.unique(who, return_inverse=True)
    drawn = [rng.integers(0, len(people), len(people)) for _ in range(_BOOTSTRAPS)]
    times = np.stack([np.bincount(one, minlength=len(people)) for one in drawn], axis=1)
    place, places = codes_of(score, most=len(score))
    counts = Counts.of(place, rose, owner, len(people), places)
    # A draw without a rise, or of rises alone, has no AUC.
    low, high = np.nanquantile(auc_of(*counts.weighed(times.astype(np.float32))), (0.025, 0.975))
    return Interval(float(roc_auc_score(rose, score)), float(low), float(high))


def within_grade_auc(forecast: Forecast, knees: Knees, pairs: VisitPairs) -> float | None:
    """How well the hazard of the reader's grade tells rises apart within that grade.

    Comparisons of a knee that rose with one of the same grade that did not, over all grades; ``None`` with
    too few rises.
    """
    can_rise = knees.grade[pairs.current] < 4
    now, later = pairs.current[can_rise], pairs.future[can_rise]
    rose = knees.grade[later] > knees.grade[now]
    if rose.sum() < _FEWEST_RISES:
        return None
    grade = knees.grade[now]
    score = hazards_of(forecast.moves[now]).mean(axis=1)[np.arange(len(now)), grade]
    won, met = 0.0, 0
    for g in range(4):
        up, down = score[rose & (grade == g)], score[~rose & (grade == g)]
        if len(up) and len(down):
            comparisons = len(up) * len(down)
            labels = np.repeat([1, 0], [len(up), len(down)])
            won += comparisons * roc_auc_score(labels, np.concatenate([up, down]))
            met += comparisons
    return won / met
