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
import torch.nn.functional as F
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk.exposure import equalise
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from train import chen
from train.diffusion import draw_futures, latent, load_autoencoder, surrogate_pairs
from train.loop import (
    Average,
    Checkpoint,
    channels_last,
    descend,
    landmark_loss,
    optimiser,
    prefetch,
    soft_grades,
)
from train.recipe import Recipe
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
        codes, landmarks = pairs.current[chosen, view], pairs.current_landmarks[chosen, view]
        return latent(quantiser, codes), torch.from_numpy(pairs.grade[chosen]), torch.from_numpy(landmarks)

    def later(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((recipe.seed, 8, step))
        chosen = rng.integers(0, len(pairs.grade), recipe.classifier.optim.batch_size)
        _, codes, grade = draw_futures(pairs, chosen, rng)
        futures = latent(quantiser, codes)
        spread = torch.from_numpy(rng.uniform(0, LARGEST_NOISE, (len(chosen), 1, 1, 1)).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal(futures.shape, dtype=np.float32))
        # Nobody marked a surrogate future: the auxiliary classifier reads it, without noise, instead.
        with torch.no_grad():
            _, landmarks = autoencoder.classifier(futures)
        return futures + spread * noise, torch.from_numpy(grade), landmarks

    paths = []
    for name, batch in (("classifier_now", now), ("classifier_12m", later)):
        module = Classifier(recipe.classifier.classifier)
        module.load_state_dict(autoencoder.classifier.state_dict())
        paths.append(_train_one(name, module, batch, recipe, val, val_latents, out))
    return paths


def _train_one(
    name: str,
    module: Classifier,
    batch: Callable[[int], tuple[Tensor, Tensor, Tensor]],
    recipe: Recipe,
    val: chen.Knees,
    val_latents: Tensor,
    out: Path,
) -> Path:
    config = recipe.classifier.optim
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
        loss = F.cross_entropy(logits, soft_grades(grades, recipe.label_smoothing))
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


@torch.no_grad()
def encode_knees(encoder: Encoder, knees: chen.Knees) -> Tensor:
    """Latents float32 [N, C, h, w] of crops as they are."""
    crops = batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees.grade))
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
