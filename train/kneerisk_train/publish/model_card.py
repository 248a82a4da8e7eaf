"""MODEL_CARD.md of a published stack, filled from what was measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kneerisk.method.calibration import Calibration
from kneerisk.stack.stack import Stack
from kneerisk_train.data.futures import uses_visits
from kneerisk_train.run.session import Session

_MEANINGS = {
    "knees": "graded knees",
    "participants": "participants",
    "kl_accuracy": "KL accuracy",
    "kl_quadratic_kappa": "quadratic kappa",
    "kl_auc": "mean one-against-rest AUC of the KL grade",
    "landmarked_knees": "knees with landmarks",
    "landmark_median_mm": "landmarks, median error in mm",
    "landmarks_within_1_mm": "landmarks within 1 mm",
    "landmarks_within_1.5_mm": "landmarks within 1.5 mm",
    "landmarks_within_2_mm": "landmarks within 2 mm",
    "landmarks_within_2.5_mm": "landmarks within 2.5 mm",
    "landmark_outliers_10_mm": "landmarks 10 mm or more off",
    "reconstructions_auc": "reconstructions, graded: mean one-against-rest AUC",
    "pairs": "pairs of visits a year apart, KL 4 left out",
    "rises": "of them rise",
    "risk_auc": "AUC of risk_12m for a rise",
    "risk_calibrated_auc": "AUC of risk_12m_calibrated",
    "risk_given_grade_auc": "AUC of risk_12m_given_grade",
    "grade_alone_auc": "AUC of the reader's grade's rate alone",
    "risk_calibrated_average_precision": "average precision of risk_12m_calibrated",
    "prevalence": "share that rises",
    "mean_calibrated_risk": "mean risk_12m_calibrated",
}

_SURROGATE = """**Surrogates.** The cohort had no second radiographs to learn from. A knee that stays is
paired with itself, repositioned by a pixel or two and re-exposed; one that rises, with a knee of the higher
grade laid onto its landmarks. The forecast has learnt what a higher grade looks like on this knee, not how
knees change."""
_NO_LANDMARKS = """
- **Landmarks: nothing.** No knee of the training split had any; the `lm_…` and `jsw_…` columns of this stack
  mean nothing."""
_VISITS = """Pairs of radiographs of one knee about twelve months apart, both graded."""


def model_card(stack: Stack, session: Session, figures: Mapping[str, Mapping[str, object]]) -> str:
    """The card's text.

    Args:
        stack: calibrated.
        session: the run that trained it.
        figures: split → figures, as :func:`kneerisk_train.publish.figures.measure` gives them.
    """
    data, recipe, description = session.data, session.recipe, stack.description
    calibration = Calibration.from_mapping(stack.calibration())
    futures = _VISITS if uses_visits(session) else _SURROGATE
    counts = "\n".join(
        f"| {split} | {len(knees)} | {len(np.unique(knees.participant))} | "
        + " / ".join(str(int((knees.grade == grade).sum())) for grade in range(5))
        + f" | {len(data.pairs[split].current)} |"
        for split, knees in data.knees.items()
    )
    components = "\n".join(f"| {name} | {entry.terms} |" for name, entry in description.components.items())
    landmarks = "" if data.knees["train"].has_landmarks.any() else _NO_LANDMARKS
    rates = ", ".join(f"{rate:.1%}" for rate in calibration.rates[:4])
    return f"""# Model card: the stack "{description.name}" {description.version}

**Research software, no medical device.** Not validated for any person's care.

Networks after arXiv 2506.14560 (Butler, Hilton & Carneiro, MICCAI 2025), trained by `kneerisk train` with
the recipe "{recipe.name}"; sizes, trunk and schedule are ours, not the paper's. `training.yaml` has the
recipe whole, the data's provenance and the splits' hash.

| component | terms of its weights |
|---|---|
{components}

## What it was trained on

{data.name}. Participants fall into splits whole; SHA-256 of the splits: `{data.splits_sha256}`.

| split | knees and visits | participants | KL 0 / 1 / 2 / 3 / 4 | graded pairs a year apart |
|---|---|---|---|---|
{counts}

Futures: {futures}

## Figures

Measured when it was published, by its own networks at {description.steps} sampler steps. The validation split
(val) **chose settings and fitted the calibration**: expect somewhat less elsewhere. In brackets: 95 %
intervals, by a bootstrap over participants.
The outcome is any rise of the KL grade within 12 months.

{_table(figures)}

## Calibration

A risk means: among knees like this one, in the population named here, so many rise within 12 months.
Population: {calibration.population} Rates of KL 0 to 3: {rates}; a knee of KL 4 cannot rise.
In another population the number is off; recalibrate before reading it as a probability.

## What it does not know

- Knees, views, detectors and readers unlike those of this cohort.
- KL 1 is a noisy label, and mostly the least accurate grade.
- Joint space width is a proxy from landmarks, **unvalidated**.{landmarks}
- No subgroup was examined.
"""


def _table(figures: Mapping[str, Mapping[str, object]]) -> str:
    splits = list(figures)
    lines = [f"| figure | {' | '.join(splits)} |", "|---" * (len(splits) + 1) + "|"]
    for key, meaning in _MEANINGS.items():
        if any(key in figures[split] for split in splits):
            cells = " | ".join(_cell(figures[split].get(key)) for split in splits)
            lines.append(f"| {meaning} | {cells} |")
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "too few to tell"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
