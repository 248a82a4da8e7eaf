"""Stage 1: the VQ-VAE, with an auxiliary classifier on its latents so that they keep what grades a knee.

Loss = L1 of the equalised radiograph and of its gradients + beta * commitment + the grades' loss +
landmark distance.  The auxiliary classifier has the shape of the stage-2 classifier, which starts from it.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk.exposure import equalise
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Decoder, Encoder
from train import chen
from train.augment import augment
from train.lite0 import load_imagenet
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
from train.recipe import Recipe

log = logging.getLogger(__name__)


class AutoencoderWithHeads(nn.Module):
    """Encoder, decoder and the auxiliary classifier, trained as one."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.encoder = Encoder(recipe.vqvae.encoder)
        self.decoder = Decoder(recipe.vqvae.decoder)
        self.classifier = Classifier(recipe.classifier.classifier)
        self._frozen: list[nn.Module] = []
        if recipe.vqvae.imagenet:
            load_imagenet(self.encoder, self.classifier)
            first = self.encoder.stages[1]
            assert isinstance(first, nn.Sequential)
            self._frozen = [self.encoder.stem, self.encoder.stages[0], first[0]]
            for module in self._frozen:
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> AutoencoderWithHeads:
        """Training mode for all but the blocks that keep their ImageNet weights and statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self


def reconstruction_loss(predicted: Tensor, radiograph: Tensor) -> Tensor:
    """L1 of the pixels plus L1 of their horizontal and vertical differences: edges tell the grade."""
    loss = (predicted - radiograph).abs().mean()
    for axis in (2, 3):
        loss = loss + (predicted.diff(dim=axis) - radiograph.diff(dim=axis)).abs().mean()
    return loss


def train(recipe: Recipe, data: Path, out: Path) -> Path:
    """Train on the train split, report on val; returns the file with the averaged weights.

    Args:
        recipe: sizes and schedule.
        data: Chen's folder.
        out: where checkpoint, log and weights go; a checkpoint found there is resumed.
    """
    stage, optim_config = recipe.vqvae, recipe.vqvae.optim
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    knees, val = chen.load(data, "train"), chen.load(data, "val")
    marked = np.flatnonzero(knees.has_landmarks)
    from_marked = round(stage.landmark_share * optim_config.batch_size)
    size = chen.CROP_SIZE

    def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((recipe.seed, step))
        chosen = np.concatenate(
            [
                rng.choice(marked, from_marked, replace=False),
                _epoch_slice(len(knees.grade), step, optim_config.batch_size - from_marked, recipe.seed),
            ]
        )
        pairs = [augment(knees.pixels[i], knees.landmarks[i], stage.augment, rng) for i in chosen]
        radiographs = torch.from_numpy(np.stack([pair[0] for pair in pairs]))[:, None]
        landmarks = torch.from_numpy(np.stack([pair[1] for pair in pairs]))
        return radiographs, torch.from_numpy(knees.grade[chosen]), landmarks

    module = channels_last(AutoencoderWithHeads(recipe))
    average = Average(module, optim_config.ema_decay)
    optim = optimiser(module, optim_config)
    checkpoint = Checkpoint(out / "vqvae.checkpoint.pt", module, average, optim)
    first = checkpoint.resume()
    module.train()
    began = time.monotonic()
    for step, (radiographs, grades, landmarks) in enumerate(
        prefetch(batch, first, optim_config.steps), start=first
    ):
        radiographs = radiographs.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            quantised = module.encoder.quantise(radiographs)
            # Half a batch teaches the decoder enough, and costs half.
            half = len(radiographs) // 2
            decoded = module.decoder(quantised.latent[:half])
            logits, points = module.classifier.logits(quantised.latent)
        targets = soft_grades(grades, recipe.label_smoothing)
        grade = grade_loss(logits, targets, recipe.classifier.ordinal_weight)
        place = landmark_loss(points, landmarks, size)
        shape = reconstruction_loss(decoded.float(), radiographs[:half])
        loss = (
            stage.reconstruction_weight * shape
            + stage.beta * quantised.commitment
            + stage.grade_weight * grade
            + stage.landmark_weight * place
        )
        descend(loss, module, optim, optim_config, step)
        average.update(module, step)
        if step % 20 == 0:
            seconds = (time.monotonic() - began) / (step - first + 1)
            log.info(
                "step %d loss %.4f grade %.4f place %.3f shape %.4f commitment %.4f (%.2f s a step)",
                *(step, *(t.item() for t in (loss, grade, place, shape, quantised.commitment)), seconds),
            )
        checkpoint.save(step + 1)
        if (step + 1) % 360 == 0 or step + 1 == optim_config.steps:
            log.info("step %d val %s", step + 1, json.dumps(evaluate(average.module, val)))
    checkpoint.save(optim_config.steps, due_only=False)
    path = out / "vqvae.pt"
    torch.save(average.module.state_dict(), path)
    return path


@torch.no_grad()
def evaluate(module: nn.Module, knees: chen.Knees, batch_size: int = 64) -> dict[str, float]:
    """Accuracy, quadratic kappa, landmark error (mm) and reconstruction L1 of the averaged weights."""
    assert isinstance(module, AutoencoderWithHeads)
    module.eval()
    grades, points, error = [], [], 0.0
    for start in range(0, len(knees.grade), batch_size):
        crops = [equalise(p.astype(np.uint16)) for p in knees.pixels[start : start + batch_size]]
        radiographs = torch.from_numpy(np.stack(crops))[:, None].to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latent, _ = module.encoder(radiographs)
            probabilities, landmarks = module.classifier(latent)
            decoded = module.decoder(latent)
        error += float((decoded.float() - radiographs).abs().mean(dim=(1, 2, 3)).sum())
        grades.append(probabilities.float().numpy())
        points.append(landmarks.numpy())
    predicted = np.concatenate(grades).argmax(axis=1)
    known = knees.has_landmarks & np.isfinite(knees.spacing[:, 0])
    offset = (np.concatenate(points) - knees.landmarks)[known] * knees.spacing[known][:, None]
    distance = np.linalg.norm(offset, axis=-1)
    return {
        "accuracy": round(float((predicted == knees.grade).mean()), 4),
        "kappa": round(cohen_kappa_score(knees.grade, predicted, weights="quadratic"), 4),
        "landmark_median_mm": round(float(np.median(distance)), 3),
        "landmark_outliers": round(float((distance >= 10).mean()), 4),
        "reconstruction_l1": round(error / len(knees.grade), 4),
    }


def _epoch_slice(count: int, step: int, batch: int, seed: int) -> np.ndarray:
    """The knees of one step: epochs are shuffled passes, cut into steps across their borders."""
    epoch, offset = divmod(step * batch, count)
    order = np.random.default_rng((seed, 1, epoch)).permutation(count)
    if offset + batch > count:
        following = np.random.default_rng((seed, 1, epoch + 1)).permutation(count)
        order = np.concatenate([order, following])
    return order[offset : offset + batch]
