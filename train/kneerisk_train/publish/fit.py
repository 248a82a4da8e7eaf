"""What is fitted beside the trained weights: novelty, the head of the grade now, the calibration on val."""

from __future__ import annotations

import json
import logging

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from kneerisk.method.calibration import Array, fit, rise_rates, spread_of_auc, spread_within
from kneerisk.method.exposure import equalise
from kneerisk.method.predict import Forecast
from kneerisk.method.risk import hazards_of, monotone_rise, risk_of_rise
from kneerisk.models.classifier import Classifier, LaterClassifier
from kneerisk.models.vqvae import Encoder
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import revise_stack
from kneerisk_train.data.equations import hazards, image_risk, load_equations, to_rates
from kneerisk_train.data.knees import Knees
from kneerisk_train.publish.figures import within_grade_auc
from kneerisk_train.run.session import Session
from kneerisk_train.stages.classifier import LATER, NOW, encode_knees
from kneerisk_train.stages.coding import made_batches
from kneerisk_train.stages.heads import fit_head

log = logging.getLogger(__name__)

_LEAST_SPREAD = 1e-9
"""Variance of feature statistics: its inverse root is a stored weight, and must fit float16."""
_AUC_BOUNDS = (0.52, 0.95)
"""Discriminations that a slope is set by, whatever few knees say."""


def fit_networks(modules: dict[str, nn.Module], session: Session) -> None:
    """Fit novelty on the run's training knees, and the head of the grade now on val, in place."""
    encoder, now, later = modules["encoder"], modules[NOW], modules[LATER]
    assert isinstance(encoder, Encoder)
    assert isinstance(now, Classifier) and isinstance(later, LaterClassifier)
    if session.recipe.vqvae.optim.steps:  # an encoder that was kept knows its training radiographs already
        fit_novelty(encoder, session.data.knees["train"], session)
    val = session.data.knees["val"].graded()
    looks = [encode_knees(encoder, val, session, zoom) for zoom in session.recipe.classifier.grade_zooms]
    fit_head(now, looks, val.grade)


def fit_calibration(stack: Stack, forecast: Forecast, session: Session) -> Stack:
    """Fit the calibration to what a stack itself says of the val knees, and publish it with them.

    The spread of risks within a grade is what val's own pairs of visits show where enough of them rise; else
    that of the outcome's equations.
    """
    data = session.data
    val = data.knees["val"]
    graded = np.flatnonzero(val.grade >= 0)
    knees, said = val.take(graded), hazards_of(forecast.moves[graded]).mean(axis=1)
    p_now, p_12m = forecast.p_now[graded], forecast.p_12m[graded].mean(axis=1)
    rates = rise_rates(data.rates.moves)
    equations = load_equations(session.equations)
    if (auc := within_grade_auc(forecast, val, data.pairs["val"])) is not None:
        spread = spread_of_auc(float(np.clip(auc, *_AUC_BOUNDS)))
        source = f"AUC {auc:.3f} within grades, of val's own pairs of visits"
    else:
        known = to_rates(hazards(equations, knees, p_now), knees.grade, rates)
        spread = spread_within([_logit(known[knees.grade == g, g]) for g in range(4)])
        source = f"the outcome's equations, given grade and other knee: {equations.population}"
    calibration = fit(
        said,
        p_now,
        knees.grade,
        [float(rate) for rate in rates],
        population=f"{data.rates.population}. Among the validation split's knees of each grade, the mean "
        "risk is that grade's rate.",
        spread=spread,
        spread_of=source,
        novelty=forecast.novelty[graded],
    )
    risk = calibration.from_image(said, p_now)
    joins = {"sum": risk_of_rise(p_now, p_12m), "monotone": monotone_rise(p_now, p_12m), "risk": risk}
    compared = rank_with_equations(joins, image_risk(equations, p_now), knees)
    log.info("rank correlation with the equations' risk from the image: %s", compared)
    document = json.loads(calibration.to_json())
    apart = np.square(forecast.future - forecast.latent[:, None]).mean(axis=(1, 2, 3, 4)) ** 0.5
    document["fitted_on"]["forecast_moves_by"] = round(float(apart.mean()), 5)
    document["fitted_on"]["rank_correlation_with_equations"] = compared
    document["fitted_on"]["calibrated_from"] = (
        "the joint P(grade now, grade at 12 months), whose rise is the monotone join's but for knees that "
        "rise by two grades"
    )
    return revise_stack(stack, calibration=document)


def rank_with_equations(scores: dict[str, Array], known: Array, knees: Knees) -> dict[str, float]:
    """Spearman correlation of each score [N] with a known risk [N], over the knees that can rise.

    A score that is the same for all of them ranks none and has no entry.
    """
    able = knees.grade < 4
    return {
        name: round(float(spearmanr(score[able], known[able]).statistic), 4)
        for name, score in scores.items()
        if np.ptp(score[able]) > 0 and np.ptp(known[able]) > 0
    }


@torch.no_grad()
def fit_novelty(encoder: Encoder, knees: Knees, session: Session) -> None:
    """Mean and whitening of the training radiographs' feature statistics, into the encoder's buffers."""
    encoder.eval()
    crops = made_batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees), session)
    statistics = torch.cat([encoder.statistics(encoder.features(part)) for part in crops]).double()
    values, vectors = torch.linalg.eigh(torch.cov(statistics.T))
    # Directions with next to no spread would turn rounding into novelty, and leave float16's range.
    whitening = vectors / (values + 1e-3 * values.mean()).clamp(min=_LEAST_SPREAD).sqrt()
    encoder.novelty_mean.copy_(statistics.mean(dim=0))
    encoder.novelty_whitening.copy_(whitening)


def _logit(p: Array) -> Array:
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
