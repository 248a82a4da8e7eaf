"""Stage 3: two classifiers on latents, one for the grade now, one for the grade of a forecast latent.

Both start from the auxiliary classifier of stage 1 and train independently, as in the paper (arXiv
2506.14560): the first on latents of radiographs, the second on surrogate futures with noise added, because a
forecast is not exactly on the codes.  Loss = grade cross-entropy + delta * landmark distance where a knee's
landmarks are known.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk.exposure import equalise
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk.views import zoomed
from train import chen
from train.diffusion import draw_futures, latent, load_autoencoder, surrogate_pairs
from train.loop import (
    Average,
    Checkpoint,
    channels_last,
    descend,
    grade_loss,
    landmark_loss,
    optimiser,
    prefetch,
    soft_grades,
)
from train.recipe import OptimConfig, Recipe
from train.surrogate import batches

log = logging.getLogger(__name__)

LARGEST_NOISE = 0.3
"""Standard deviation, at most, of the noise on the second classifier's latents (their own is 1)."""
_REPORT_STEPS = 100


def train(recipe: Recipe, data: Path, out: Path) -> list[Path]:
    """Train both classifiers; returns the files with the averaged weights."""
    torch.set_num_threads(recipe.threads)
    autoencoder = load_autoencoder(recipe, out)
    pairs = surrogate_pairs(recipe, data, out)
    quantiser = autoencoder.encoder.quantiser
    val = chen.load(data, "val")
    val_latents = encode_knees(autoencoder.encoder, val)

    def now(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((recipe.seed, 7, step))
        chosen = rng.integers(0, len(pairs.grade), recipe.classifier.optim.batch_size)
        view = rng.integers(0, pairs.current.shape[1], len(chosen))
        latents = spoil(latent(quantiser, pairs.current[chosen, view]), rng)
        landmarks = torch.from_numpy(pairs.current_landmarks[chosen, view])
        return latents, torch.from_numpy(pairs.grade[chosen]), landmarks

    def later(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((recipe.seed, 8, step))
        chosen = rng.integers(0, len(pairs.grade), recipe.classifier.optim_12m.batch_size)
        _, codes, grade = draw_futures(pairs, chosen, rng)
        futures = latent(quantiser, codes)
        # Nobody marked a surrogate future: the auxiliary classifier reads it, without noise, instead.
        with torch.no_grad():
            _, landmarks = autoencoder.classifier(futures)
        return spoil(futures, rng), torch.from_numpy(grade), landmarks

    paths = []
    stages = (
        ("classifier_now", now, recipe.classifier.optim),
        ("classifier_12m", later, recipe.classifier.optim_12m),
    )
    for name, batch, config in stages:
        module = Classifier(recipe.classifier.classifier)
        module.load_state_dict(autoencoder.classifier.state_dict())
        paths.append(_train_one(name, module, batch, config, recipe, val, val_latents, out))
    return paths


def _train_one(
    name: str,
    module: Classifier,
    batch: Callable[[int], tuple[Tensor, Tensor, Tensor]],
    config: OptimConfig,
    recipe: Recipe,
    val: chen.Knees,
    val_latents: Tensor,
    out: Path,
) -> Path:
    torch.manual_seed(recipe.seed + 2)
    module = channels_last(module)
    average = Average(module, config.ema_decay)
    optim = optimiser(module, config)
    checkpoint = Checkpoint(out / f"{name}.checkpoint.pt", module, average, optim)
    first = checkpoint.resume()
    path = out / f"{name}.pt"
    began = time.monotonic()
    for step, (latents, grades, landmarks) in enumerate(prefetch(batch, first, config.steps), start=first):
        module.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits, points = module.logits(latents)
        target = soft_grades(grades, recipe.label_smoothing)
        loss = grade_loss(logits, target, recipe.classifier.ordinal_weight)
        loss = loss + recipe.classifier.delta * landmark_loss(points, landmarks, chen.CROP_SIZE)
        descend(loss, module, optim, config, step)
        average.update(module, step)
        if step % 20 == 0:
            seconds = (time.monotonic() - began) / (step - first + 1)
            log.info("%s step %d loss %.4f (%.2f s a step)", name, step, loss.item(), seconds)
        checkpoint.save(step + 1)
        if (step + 1) % _REPORT_STEPS == 0:
            figures = evaluate(average.module, val, val_latents)
            log.info("%s step %d val %s", name, step + 1, json.dumps(figures))
    checkpoint.save(config.steps, due_only=False)
    torch.save(average.module.state_dict(), path)
    return path


def spoil(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """Latents [B, C, h, w] with noise on them and, in a third of them, a rectangle set to zero."""
    count, _, height, width = latents.shape
    spread = rng.uniform(0, LARGEST_NOISE, (count, 1, 1, 1)).astype(np.float32)
    spoilt = latents + torch.from_numpy(spread * rng.standard_normal(latents.shape, dtype=np.float32))
    for item in np.flatnonzero(rng.random(count) < 1 / 3):
        tall, wide = rng.integers(3, 9, 2)
        top, left = rng.integers(0, height - tall), rng.integers(0, width - wide)
        spoilt[item, :, top : top + tall, left : left + wide] = 0
    return spoilt


@torch.no_grad()
def encode_knees(encoder: Encoder, knees: chen.Knees, zoom: float = 1.0) -> Tensor:
    """Latents float32 [N, C, h, w] of crops as they are, or zoomed (:mod:`kneerisk.views`)."""

    def seen(index: int) -> np.ndarray:
        return zoomed(equalise(knees.pixels[index].astype(np.uint16)), zoom)

    crops = batches(seen, len(knees.grade))
    return torch.cat([encoder(part)[0] for part in crops])


@torch.no_grad()
def predict(module: nn.Module, latents: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """P(KL) float32 [N, 5] and landmarks float32 [N, 16, 2] of latents [N, C, h, w]."""
    module.eval()
    outputs = [
        module(part.contiguous(memory_format=torch.channels_last)) for part in torch.split(latents, 64)
    ]
    return torch.cat([p for p, _ in outputs]).numpy(), torch.cat([points for _, points in outputs]).numpy()


def evaluate(module: nn.Module, knees: chen.Knees, latents: Tensor) -> dict[str, float]:
    """Accuracy, quadratic kappa, cross-entropy and median landmark error in mm."""
    p, landmarks = predict(module, latents)
    known = knees.has_landmarks & np.isfinite(knees.spacing[:, 0])
    offset = (landmarks - knees.landmarks)[known] * knees.spacing[known][:, None]
    return {
        "accuracy": round(float((p.argmax(axis=1) == knees.grade).mean()), 4),
        "kappa": round(cohen_kappa_score(knees.grade, p.argmax(axis=1), weights="quadratic"), 4),
        "cross_entropy": round(float(-np.log(p[np.arange(len(p)), knees.grade]).mean()), 4),
        "landmark_median_mm": round(float(np.median(np.linalg.norm(offset, axis=-1))), 3),
    }
