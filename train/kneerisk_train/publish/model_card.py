"""MODEL_CARD.md of a published stack, filled from what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kneerisk.method.calibration import Calibration
from kneerisk.stack.stack import Stack
from kneerisk_train.data.equations import load_equations
from kneerisk_train.publish.write import futures_in_words, training_record
from kneerisk_train.run.session import Session
from kneerisk_train.stages.futures import uses_visits

LOCALISER_HEADING = "## The localiser"
_MEANINGS = {
    "knees": "graded knees",
    "participants": "participants",
    "kl_accuracy": "KL accuracy",
    "kl_quadratic_kappa": "quadratic kappa",
    "kl_calibration_error": "expected calibration error of the KL grade, 15 bins",
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
    "risk_sum_auc": "AUC of risk_12m_sum for a rise",
    "risk_monotone_auc": "AUC of the monotone join of both posteriors",
    "risk_image_auc": "AUC of risk_12m_image",
    "risk_given_grade_auc": "AUC of risk_12m given the reader's grade",
    "grade_alone_auc": "AUC of the reader's grade's rate alone",
    "risk_image_average_precision": "average precision of risk_12m_image",
    "prevalence": "share that rises",
    "mean_risk_image": "mean risk_12m_image",
}

_SURROGATE = """**Surrogates.** Nobody's second radiograph taught the forecast. A reader's grade steps, the
disease behind it does not: a surrogate future is the present latent, moved along the mean change from its
grade to the next, by as many grades as a knee like it gets worse in a year. That change is the one between
the two knees of one participant on one film, drawn towards the one between all knees of either grade, and
stretched until the classifier reads a grade in it. How much a knee gets worse by comes from equations of the
outcome ({equations}), scaled to the population's rates and moves; each future is drawn from an exponential
distribution around it, and no knee heals. So a forecast shows how knees of a higher grade look in the mean,
not how this one will change; the later classifier learnt, from forecasts, what the equations know."""
_STARTED = """
It started from the stack {stack}. A stage of 0 steps in the recipe is as it came to it, but for what
is fitted on val below: stage 1 from that stack, the classifier of the grade now from stage 1.
"""
_SHARE = """Stage 1's weights are the mean of what it learnt and of what it started from, which counts
{share:.0%}.
"""
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
    surrogate = _SURROGATE.format(equations=load_equations(session.equations).population)
    futures = f"{futures_in_words(session)}. {_VISITS if uses_visits(session) else surrogate}"
    started = (
        ""
        if session.started_from is None
        else _STARTED.format(stack=session.started_from["stack"])
        + (_SHARE.format(share=recipe.vqvae.start_share) if recipe.vqvae.start_share else "")
    )
    moved = calibration.fitted_on["forecast_moves_by"]
    compared = calibration.fitted_on.get("rank_correlation_with_equations")
    ranks = (
        "Val, rank correlation with the equations' risk from the image, knees that can rise: "
        + ", ".join(f"{name} {value:.3f}" for name, value in compared.items())
        + f". It is calibrated from {calibration.fitted_on['calibrated_from']}."
        if compared
        else ""
    )
    counts = "\n".join(
        f"| {split} | {len(knees)} | {len(np.unique(knees.participant))} | "
        + " / ".join(str(int((knees.grade == grade).sum())) for grade in range(5))
        + f" | {len(data.pairs[split].current)} |"
        for split, knees in data.knees.items()
    )
    components = "\n".join(f"| {name} | {entry.terms} |" for name, entry in description.components.items())
    localiser = _localiser(training_record(stack).get("localiser", {}))
    landmarks = "" if data.knees["train"].has_landmarks.any() else _NO_LANDMARKS
    rates = ", ".join(f"{rate:.1%}" for rate in calibration.rates[:4])
    return f"""# Model card: the stack "{description.name}" {description.version}

**Research software, no medical device.** Not validated for any person's care.

Networks after arXiv 2506.14560 (Butler, Hilton & Carneiro, MICCAI 2025), trained by `kneerisk train` with
the recipe "{recipe.name}"; sizes, trunk and schedule are ours, not the paper's. `training.yaml` has the
recipe whole, the data's provenance and the splits' hash.
{started}
| component | terms of its weights |
|---|---|
{components}

## What it was trained on

{data.name}. Participants fall into splits whole; SHA-256 of the splits: `{data.splits_sha256}`.

| split | knees and visits | participants | KL 0 / 1 / 2 / 3 / 4 | graded pairs a year apart |
|---|---|---|---|---|
{counts}

Futures: {futures}

In {description.steps} steps from seed 0's noise the forecast latent lies {moved:.3f} from the present one in
the mean val knee (root mean square; a latent's own is 1). **A year moves most knees by less than a picture
can show**: look at the numbers, not at the picture, for what may become of a knee.

## Figures

Measured when it was published, by its own networks at {description.steps} sampler steps. **Val chose and
calibrated**: expect somewhat less elsewhere. In brackets: 95 % intervals, by a bootstrap over participants.
The outcome is any rise of the KL grade within 12 months.

{_table(figures)}

## Calibration

Population: {calibration.population} Rates of KL 0 to 3: {rates}; a knee of KL 4 cannot rise.
In another population the number is off; recalibrate before reading it as a probability.

The later classifier reads the forecast alone and answers how the grade moves: row i of its table is
P(KL at 12 months | KL i now), and nothing below the diagonal. That knees do not heal is a model of the
outcome, not a limit put on an answer. P(KL at 12 months) is the posterior of the grade now moved by that
table. The risk given a reader's grade is that grade's row; the risk from the image is the mean of the rows,
weighted by the posterior. Their spread within a grade is that of {calibration.hazard.spread_of}.
{ranks}
The temperature, the caution (how much further an unsure posterior is flattened) and the biases of the grade
now are those of least cross-entropy on val.

## What it does not know

- Knees, views, detectors and readers unlike those of this cohort.
- KL 1 is a noisy label, and mostly the least accurate grade.
- Joint space width is a proxy from landmarks, **unvalidated**.{landmarks}
- No subgroup was examined.
{localiser}"""


def _localiser(record: Mapping[str, Any]) -> str:
    """Whose localiser a stack has, if it is not the run's own."""
    if not record:
        return ""
    recipe = record.get("recipe", {}).get("name")
    learnt = f'\nIt learnt by the recipe "{recipe}", which `training.yaml` has.' if recipe else ""
    return f"""
{LOCALISER_HEADING}

The localiser is that of {record["stack"]}, as it is.{learnt}
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
