"""What is fitted beside the trained weights: novelty statistics, the heads, and the calibration on val."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk.method.calibration import fit, rise_rates
from kneerisk.method.exposure import equalise
from kneerisk.method.predict import Forecast
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk.stack.stack import Stack
from kneerisk.stack.write import revise_stack
from kneerisk_train.data.coding import made_batches
from kneerisk_train.data.data import TrainingData
from kneerisk_train.data.knees import Knees
from kneerisk_train.publish.figures import within_grade_auc
from kneerisk_train.run.session import Session
from kneerisk_train.stages.classifier import LATER, NOW, encode_knees

log = logging.getLogger(__name__)

_AUC_BOUNDS = (0.52, 0.95)
"""Discriminations that a slope is set by, whatever few knees say."""


def fit_networks(modules: dict[str, nn.Module], session: Session, *, auxiliary: bool) -> None:
    """Fit novelty and both grade heads on the run's knees, in place; takes ``auxiliary`` out.

    Args:
        modules: the run's networks, and ``auxiliary``, stage 1's own classifier.
        session: the run.
        auxiliary: whether that classifier may be published for the grade now, where it does better on val.
    """
    encoder = modules["encoder"]
    assert isinstance(encoder, Encoder)
    fit_novelty(encoder, session.data.knees["train"], session)
    val = session.data.knees["val"].graded()
    looks = [encode_knees(encoder, val, session, zoom) for zoom in session.recipe.classifier.grade_zooms]
    grade = torch.from_numpy(val.grade).to(session.device)
    first = modules.pop("auxiliary")
    if auxiliary and cross_entropy(first, looks[0], grade) < cross_entropy(modules[NOW], looks[0], grade):
        log.info("classifier_now: the auxiliary classifier does better on val and is published")
        modules[NOW] = first
    for component in (NOW, LATER):
        module = modules[component]
        assert isinstance(module, Classifier)
        seen = looks if component == NOW else looks[:1]
        fit_grade_bias(module, seen, val.grade, session.recipe.seed)
        fit_temperature(module, seen, grade)
        log.info("%s: temperature %.3f", component, module.temperature.item())


def fit_calibration(stack: Stack, forecast: Forecast, data: TrainingData) -> Stack:
    """Fit the calibration to what a stack itself says of the val knees, and publish it with them.

    The slopes come from the discrimination that val's own pairs of visits show where enough of them rise;
    else from what was measured on real knees elsewhere (:func:`kneerisk.method.calibration.fit`'s defaults).
    """
    val = data.knees["val"]
    graded = val.grade >= 0
    aucs = {}
    if (measured := within_grade_auc(forecast, val, data.pairs["val"])) is not None:
        by_image, given_grade = (float(np.clip(auc, *_AUC_BOUNDS)) for auc in measured)
        log.info("val pairs: AUC within grades %.3f from the image, %.3f given the grade", *measured)
        aucs = {"auc_image": by_image, "auc_given_grade": given_grade}
    calibration = fit(
        forecast.p_now[graded],
        forecast.p_12m[graded].mean(axis=1),
        val.grade[graded],
        [float(rate) for rate in rise_rates(data.rates.moves)],
        population=f"{data.rates.population}. Among the validation split's knees of each grade, the mean "
        "risk is that grade's rate.",
        novelty_threshold=round(float(np.quantile(forecast.novelty, 0.999)), 4),
        **aucs,
    )
    return revise_stack(stack, calibration=json.loads(calibration.to_json()))


@torch.no_grad()
def fit_novelty(encoder: Encoder, knees: Knees, session: Session) -> None:
    """Mean and whitening of the training radiographs' feature statistics, into the encoder's buffers."""
    encoder.eval()
    crops = made_batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees), session)
    statistics = torch.cat([encoder.statistics(encoder.features(part)) for part in crops]).double()
    values, vectors = torch.linalg.eigh(torch.cov(statistics.T))
    # Directions with next to no spread would turn rounding into novelty.
    whitening = vectors / (values + 1e-3 * values.mean()).clamp(min=1e-12).sqrt()
    encoder.novelty_mean.copy_(statistics.mean(dim=0))
    encoder.novelty_whitening.copy_(whitening)


@torch.no_grad()
def cross_entropy(classifier: nn.Module, latents: Tensor, grade: Tensor) -> float:
    """Mean cross-entropy of a classifier's P(KL) on given knees."""
    classifier.eval()
    p = torch.cat([classifier(part)[0] for part in torch.split(latents, 64)])
    return F.nll_loss(p.clamp(min=1e-9).log(), grade).item()


@torch.no_grad()
def mean_logits(classifier: Classifier, looks: Sequence[Tensor]) -> Tensor:
    """Logits [N, 5] of several looks at the same knees (latents [N, C, h, w] each), averaged.

    Their softmax is the geometric mean of the looks' posteriors, as scoring forms it.
    """
    classifier.eval()
    return torch.stack(
        [torch.cat([classifier.logits(part)[0] for part in torch.split(latents, 64)]) for latents in looks]
    ).mean(dim=0)


@torch.no_grad()
def fit_grade_bias(
    classifier: Classifier, looks: Sequence[Tensor], grade: npt.NDArray[np.int64], seed: int
) -> None:
    """Move the grade head's biases to where accuracy plus quadratic kappa is best on given knees.

    Cross-entropy with soft targets leans towards the common grade 0. Random biases are tried; the mean of the
    best hundredth is taken, less of an accident than the single best.
    """
    logits = mean_logits(classifier, looks).cpu().numpy()
    tried = np.random.default_rng((seed, 9)).normal(0, 0.25, (3000, 5))

    def merit(bias: npt.NDArray[np.float64]) -> float:
        decided = (logits + bias).argmax(axis=1)
        return float((decided == grade).mean() + cohen_kappa_score(grade, decided, weights="quadratic"))

    merits = np.array([merit(bias) for bias in tried])
    chosen = tried[np.argsort(merits)[-30:]].mean(axis=0)
    chosen -= chosen.mean()
    log.info("grade biases %s: merit %.4f → %.4f", chosen.round(3), merit(np.zeros(5)), merit(chosen))
    head = classifier.grade[1]
    assert isinstance(head, nn.Linear)
    head.bias.add_(torch.from_numpy(chosen.astype(np.float32)).to(head.bias.device))


def fit_temperature(classifier: Classifier, looks: Sequence[Tensor], grade: Tensor) -> None:
    """The softmax temperature of least cross-entropy on given knees (arXiv 1706.04599), into the buffer."""
    logits = mean_logits(classifier, looks)
    candidates = torch.linspace(0.3, 3.0, 541)
    losses = torch.stack([F.cross_entropy(logits / float(t), grade) for t in candidates])
    classifier.temperature.fill_(candidates[losses.argmin()].item())
