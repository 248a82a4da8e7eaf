"""Stage 3: the classifier of the grade now, and the one that reads the grade's change off a forecast.

The first starts from the auxiliary classifier of stage 1, which is that of ``--init`` where stage 1 learns
nothing, and learns on latents of radiographs: loss = the grades' loss + delta * landmark distance where a
knee's landmarks are known (arXiv 2506.14560).

The second (ours, see :class:`kneerisk.models.classifier.LaterClassifier`) is the first with another head.  It
learns on forecasts of the trained U-Net, each from a noise and in a number of steps of its own, so that
neither decides its answer.  Loss = cross-entropy of each row of P(later | now) with what the knee's row is:
the grade that its second visit had or, for surrogates, the equations' distribution.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kneerisk.method.exposure import equalise
from kneerisk.method.views import zoomed
from kneerisk.models.classifier import Classifier, LaterClassifier
from kneerisk.models.unet import UNet
from kneerisk.models.vqvae import Encoder
from kneerisk_train.data.knees import Knees
from kneerisk_train.data.labels import draw_chances
from kneerisk_train.run.loop import Batch, Stage, call, channels_last, fit, seed_of, trained_weights
from kneerisk_train.run.recipe import Recipe
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.stages.coding import BATCH, latents_of, load_arrays, made_batches, save_arrays
from kneerisk_train.stages.diffusion import NAME as DIFFUSION
from kneerisk_train.stages.diffusion import forecast_latents
from kneerisk_train.stages.futures import Futures, coded_knees, open_futures
from kneerisk_train.stages.losses import grade_loss, landmark_loss
from kneerisk_train.stages.vqvae import grade_figures, load_autoencoder

log = logging.getLogger(__name__)

NOW, LATER = "classifier_now", "classifier_12m"
LARGEST_NOISE = 0.3
"""Standard deviation, at most, of the noise on latents that the classifiers learn on (their own is 1)."""
STEPS = (1, 2)
"""Of the sampler, in which forecasts to learn from are made; one of these, by chance."""
_FIGURES_EVERY = 100
_FORECASTS_FILE = "forecasts.npz"
_LEAST_LOG = -30.0


def train(session: Session) -> tuple[Classifier, LaterClassifier]:
    """Train both classifiers; returns their averaged weights."""
    now = train_now(session)
    return now, train_later(session, now)


def train_now(session: Session) -> Classifier:
    """Train the classifier of the grade now; returns its averaged weights."""
    recipe = session.recipe
    autoencoder = load_autoencoder(session)
    module = Classifier(recipe.classifier.classifier)
    module.load_state_dict(autoencoder.classifier.state_dict())
    coded = coded_knees(session)
    quantiser = autoencoder.encoder.quantiser
    val = session.data.knees["val"].graded()

    @cache
    def val_latents() -> Tensor:
        return encode_knees(autoencoder.encoder, val, session)

    chances = draw_chances(coded.grade, recipe.labels.balance)
    chances = np.where(coded.grade >= 0, chances, 0)
    chances /= chances.sum()

    def batch(step: int, rng: np.random.Generator) -> Batch:
        chosen = rng.choice(len(chances), recipe.classifier.optim.batch_size, p=chances)
        view = rng.integers(0, coded.views, len(chosen))
        return (
            torch.from_numpy(coded.codes[chosen, view]),
            torch.from_numpy(coded.grade[chosen]),
            torch.from_numpy(coded.landmarks[chosen, view]),
        )

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        codes, grade, landmarks = arrays
        logits, points = call(training, "logits", spoil(latents_of(quantiser, codes)))
        return reading_terms(logits.float(), points.float(), grade, landmarks, recipe)

    stage = Stage(
        name=NOW,
        module=module,
        optim=recipe.classifier.optim,
        batch=batch,
        terms=terms,
        figures=lambda average: evaluate(average, val, val_latents()),
        figures_every=_FIGURES_EVERY,
        forward_methods=("logits",),
    )
    averaged = fit(session, stage)
    assert isinstance(averaged, Classifier)
    return averaged


def reading_terms(
    logits: Tensor, points: Tensor, grade: Tensor, landmarks: Tensor, recipe: Recipe
) -> dict[str, Tensor]:
    """The grades' loss, and delta times the landmarks' (arXiv 2506.14560), each a scalar.

    Args:
        logits: float32 [B, 5].
        points: float32 [B, 16, 2], found, in crop pixels.
        grade: int64 [B].
        landmarks: float32 [B, 16, 2], marked; NaN where nobody did.
        recipe: its labels, delta and crop size.
    """
    return {
        "grade": grade_loss(logits, grade, recipe.labels),
        "landmarks": recipe.classifier.delta * landmark_loss(points, landmarks, recipe.crop_size),
    }


def train_later(session: Session, now: Classifier) -> LaterClassifier:
    """Train the head that reads the grade's change off forecasts; returns its averaged weights."""
    config = session.recipe.classifier
    forecasts = open_forecasts(session, now)
    module = LaterClassifier(config.classifier)
    module.start_from(now, torch.from_numpy(session.data.rates.moves))
    module.reader.requires_grad_(False)
    count = len(forecasts.weight)

    def batch(step: int, rng: np.random.Generator) -> Batch:
        knee = rng.integers(0, count, config.optim_12m.batch_size)
        draw = rng.integers(0, forecasts.summary.shape[1], len(knee))
        return (
            torch.from_numpy(forecasts.summary[knee, draw].astype(np.float32)),
            torch.from_numpy(forecasts.moves[knee]),
            torch.from_numpy(forecasts.weight[knee]),
        )

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        summary, moves, weight = arrays
        return {"moves": moves_loss(call(training, "moves", summary), moves, weight)}

    stage = Stage(
        name=LATER,
        module=module,
        optim=config.optim_12m,
        batch=batch,
        terms=terms,
        forward_methods=("moves",),
    )
    averaged = fit(session, stage)
    assert isinstance(averaged, LaterClassifier)
    return averaged


def moves_loss(log_moves: Tensor, moves: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of P(later | now), a scalar.

    Args:
        log_moves: log P(j at twelve months | i now) float32 [B, 5, 5]; what cannot be is very negative.
        moves: what it is to be, [B, 5, 5], rows summing to one.
        weight: of each row, [B, 5].
    """
    each = -(moves * log_moves.clamp(min=_LEAST_LOG)).sum(dim=2)
    return (weight * each).sum() / weight.sum()


@dataclass(frozen=True)
class Forecasts:
    """What the classifier of the grade now tells grades by, off K forecasts of each of M knees."""

    summary: npt.NDArray[np.float16]
    """[M, K, E]."""
    moves: npt.NDArray[np.float32]
    """[M, 5, 5]: see :class:`kneerisk_train.stages.futures.Lessons`."""
    weight: npt.NDArray[np.float32]
    """[M, 5]."""


def open_forecasts(session: Session, now: Classifier) -> Forecasts:
    """The U-Net's forecasts of the training knees as ``now`` reads them; made once (``forecasts.npz``)."""
    path = session.out / _FORECASTS_FILE
    stamps = [(session.out / f"{name}.pt").stat().st_mtime_ns for name in (DIFFUSION, NOW)]
    count = session.recipe.classifier.forecasts
    futures = open_futures(session)
    purpose = fingerprint(session.recipe.seed, session.data.splits_sha256, stamps, count, STEPS)
    if session.fabric.is_global_zero and load_arrays(path, Forecasts, purpose) is None:
        save_arrays(path, make_forecasts(session, futures, now, count), purpose)
    session.fabric.barrier()
    made = load_arrays(path, Forecasts, purpose)
    assert isinstance(made, Forecasts)
    return made


@torch.no_grad()
def make_forecasts(session: Session, futures: Futures, now: Classifier, count: int) -> Forecasts:
    """Forecast every knee of the lessons ``count`` times, and read the forecasts."""
    lessons, codes = futures.lessons(), futures.coded.codes
    unet = UNet(session.recipe.diffusion.unet)
    unet.load_state_dict(trained_weights(session.out, DIFFUSION))
    networks = [channels_last(module).to(session.device).eval() for module in (unet, now)]
    quantiser = load_autoencoder(session).encoder.quantiser
    rng = np.random.default_rng(seed_of(session.recipe.seed, "forecasts"))
    knees = np.repeat(np.arange(len(lessons.knee)), count)
    steps = rng.choice(STEPS, len(knees))
    summary = np.empty((len(knees), now.config.head_channels), np.float16)
    log.info("forecasting %d knees, %d times each", len(lessons.knee), count)
    for each in STEPS:
        rows = np.flatnonzero(steps == each)
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            view = rng.integers(0, codes.shape[1], len(part))
            seen = torch.from_numpy(codes[lessons.knee[knees[part]], view]).to(session.device)
            current = latents_of(quantiser, seen)
            noise = rng.standard_normal(tuple(current.shape), dtype=np.float32)
            future = forecast_latents(networks[0], current, noise, each)
            read = now.summary(future.contiguous(memory_format=torch.channels_last))
            summary[part] = read.float().cpu().numpy()
    return Forecasts(
        summary.reshape(len(lessons.knee), count, -1),
        lessons.moves.astype(np.float32),
        lessons.weight.astype(np.float32),
    )


def spoil(latents: Tensor) -> Tensor:
    """Latents [B, C, h, w] with noise on them and, in a third of them, a rectangle set to zero."""
    count, _, height, width = latents.shape
    device = latents.device
    spread = torch.rand(count, 1, 1, 1, device=device) * LARGEST_NOISE
    spoilt = latents + spread * torch.randn_like(latents)
    largest = max(2, height // 3)
    tall, wide = (torch.randint(min(3, largest - 1), largest, (count, 1), device=device) for _ in range(2))
    top = (torch.rand(count, 1, device=device) * (height - tall)).long()
    left = (torch.rand(count, 1, device=device) * (width - wide)).long()
    rows, columns = torch.arange(height, device=device)[None], torch.arange(width, device=device)[None]
    within = ((rows >= top) & (rows < top + tall))[:, :, None] & (
        (columns >= left) & (columns < left + wide)
    )[:, None, :]
    hit = torch.rand(count, 1, 1, device=device) < 1 / 3
    return spoilt.masked_fill((within & hit)[:, None], 0.0)


@torch.no_grad()
def encode_knees(encoder: Encoder, knees: Knees, session: Session, zoom: float = 1.0) -> Tensor:
    """Latents float32 [N, C, h, w] of crops as they are, or zoomed (:mod:`kneerisk.method.views`)."""

    def seen(index: int) -> npt.NDArray[np.float32]:
        return zoomed(equalise(knees.pixels[index].astype(np.uint16)), zoom)

    return torch.cat([encoder(part)[0] for part in made_batches(seen, len(knees), session)])


@torch.no_grad()
def predict(module: nn.Module, latents: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """P(KL) float32 [N, 5] and landmarks float32 [N, 16, 2] of latents [N, C, h, w]."""
    module.eval()
    outputs = [
        module(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(latents, 64)
    ]
    p, points = (torch.cat(parts).float().cpu().numpy() for parts in zip(*outputs, strict=True))
    return p, points


def evaluate(module: nn.Module, knees: Knees, latents: Tensor) -> dict[str, float]:
    """Accuracy, kappa, cross-entropy and landmark errors on graded knees."""
    p, landmarks = predict(module, latents)
    return grade_figures(p, landmarks, knees)
