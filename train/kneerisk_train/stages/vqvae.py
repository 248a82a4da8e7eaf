"""Stage 1: the VQ-VAE, with an auxiliary classifier on its latents so that they keep what grades a knee.

Every knee stands in a batch twice: as it was exposed, and as another film, detector or processing might have
shown it.  Loss = L1 of the knee's own radiograph, decoded from the other exposure's latent, and of its
gradients + beta * commitment + the grades' loss + landmark distance + steadiness (one grade from both
exposures) + stillness (one latent from both).  The auxiliary classifier has the shape of the stage-3
classifiers, which start from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from kneerisk.method.exposure import equalise
from kneerisk.method.grade import median_grade
from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Decoder, Encoder
from kneerisk_train.data.knees import Knees
from kneerisk_train.data.labels import draw_chances
from kneerisk_train.run.loop import Batch, channels_last, trained_weights
from kneerisk_train.run.pictures import marked_crops, side_by_side
from kneerisk_train.run.recipe import Recipe
from kneerisk_train.run.session import Session
from kneerisk_train.run.training_log import Picture
from kneerisk_train.stages.lite0 import load_imagenet
from kneerisk_train.stages.losses import grade_loss, landmark_loss, steadiness_loss, stillness_loss

NAME = "vqvae"
_BATCH = 64
_SHOWN = 6
_NONE = np.empty(0, np.int64)


class Seen(NamedTuple):
    """What stage 1 makes of a batch while it trains."""

    decoded: Tensor
    """[D, 1, S, S]: of the first of the radiographs that were exposed anew."""
    commitment: Tensor
    continuous: Tensor
    """[B, C, h, w]: the latent before the codes."""
    logits: Tensor
    landmarks: Tensor


class AutoencoderWithHeads(nn.Module):
    """Encoder, decoder and the auxiliary classifier, trained as one."""

    def __init__(self, recipe: Recipe):
        super().__init__()
        self.encoder = Encoder(recipe.vqvae.encoder)
        self.decoder = Decoder(recipe.vqvae.decoder)
        self.classifier = Classifier(recipe.classifier.classifier)
        self._frozen = start_trunk(self.encoder, self.classifier, recipe)
        if recipe.vqvae.freeze_norms:
            both = (self.encoder, self.classifier)
            norms = [m for part in both for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
            for norm in norms:
                norm.requires_grad_(False)
            self._frozen += norms

    def train(self, mode: bool = True) -> AutoencoderWithHeads:
        """Training mode for all but the blocks that keep their ImageNet weights and statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, radiographs: Tensor, decoded: int) -> Seen:
        """Equalised radiographs [2B, 1, S, S] → what the losses need; ``decoded`` are drawn."""
        quantised = self.encoder.quantise(radiographs)
        logits, landmarks = self.classifier.logits(quantised.latent)
        return Seen(
            self.decoder(quantised.latent[len(radiographs) // 2 :][:decoded]),
            quantised.commitment,
            quantised.continuous,
            logits,
            landmarks,
        )


def start_trunk(encoder: Encoder, classifier: Classifier, recipe: Recipe) -> list[nn.Module]:
    """Load ImageNet's weights where the recipe wants them; returns the first blocks, to stay frozen."""
    if not recipe.vqvae.imagenet:
        return []
    load_imagenet(encoder, classifier)
    first = encoder.stages[1]
    assert isinstance(first, nn.Sequential)
    frozen = [encoder.stem, encoder.stages[0], first[0]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def reconstruction_loss(predicted: Tensor, radiograph: Tensor) -> Tensor:
    """L1 of the pixels plus L1 of their horizontal and vertical differences: edges tell the grade."""
    loss = (predicted - radiograph).abs().mean()
    for axis in (2, 3):
        loss = loss + (predicted.diff(dim=axis) - radiograph.diff(dim=axis)).abs().mean()
    return loss


def loss_terms(seen: Seen, arrays: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """The weighted terms of the loss.

    Args:
        seen: what the networks made of the batch.
        arrays: radiographs [2B, 1, S, S], grades int64 [2B], landmarks [2B, 16, 2], lessons [2B, 5]; row
            i and row B + i are of one knee, the second exposed anew.
        recipe: the weights, and how grades are taken.
    """
    radiographs, grade, landmarks, lesson = arrays
    config, logits = recipe.vqvae, seen.logits.float()
    # Asked of the new exposure is the knee's own radiograph: the latent need not know how it was exposed.
    shape = reconstruction_loss(seen.decoded.float(), radiographs[: len(seen.decoded)])
    grades = grade_loss(logits, grade, recipe.labels, lesson, config.taught)
    points = landmark_loss(seen.landmarks.float(), landmarks, recipe.crop_size)
    return {
        "reconstruction": config.reconstruction_weight * shape,
        "commitment": config.beta * seen.commitment,
        "grade": config.grade_weight * grades,
        "landmarks": config.landmark_weight * points,
        "steadiness": config.steadiness_weight * steadiness_loss(logits),
        "stillness": config.stillness_weight * stillness_loss(seen.continuous),
    }


class Drawing:
    """Which knees a step sees: a share with landmarks, the others by shuffled passes (or by balance)."""

    def __init__(self, knees: Knees, batch: int, landmark_share: float, recipe: Recipe):
        self._marked = np.flatnonzero(knees.has_landmarks)
        self._from_marked = min(round(landmark_share * batch), len(self._marked))
        self._others = batch - self._from_marked
        self._count, self._seed = len(knees), recipe.seed
        balance = recipe.labels.balance
        self._chances = draw_chances(knees.grade, balance) if balance else None

    def __call__(self, step: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Rows of one step."""
        marked = rng.choice(self._marked, self._from_marked, replace=False) if self._from_marked else _NONE
        others = (
            epoch_slice(self._count, step, self._others, self._seed)
            if self._chances is None
            else rng.choice(self._count, self._others, p=self._chances)
        )
        return np.concatenate([marked, others])


def epoch_slice(count: int, step: int, batch: int, seed: int) -> npt.NDArray[np.int64]:
    """The knees of one step: epochs are shuffled passes, cut into steps across their borders."""
    places = np.arange(step * batch, (step + 1) * batch)
    orders = {
        epoch: np.random.default_rng((seed, 1, int(epoch))).permutation(count)
        for epoch in np.unique(places // count)
    }
    return np.array([orders[place // count][place % count] for place in places], np.int64)


def load_autoencoder(session: Session) -> AutoencoderWithHeads:
    """The trained stage 1 of this run, in evaluation mode on the session's device."""
    module = AutoencoderWithHeads(session.recipe)
    module.load_state_dict(trained_weights(session.out, NAME))
    return channels_last(module).eval().to(session.device)


def radiograph_batches(
    crops: npt.NDArray[np.uint8], session: Session, size: int = _BATCH
) -> Iterator[Tensor]:
    """Crops [N, S, S] as they are → equalised [B, 1, S, S] on the session's device."""
    for start in range(0, len(crops), size):
        standard = np.stack([equalise(crop.astype(np.uint16)) for crop in crops[start : start + size]])
        part = torch.from_numpy(standard)[:, None].contiguous(memory_format=torch.channels_last)
        yield part.to(session.device)


def grade_figures(
    posterior: npt.NDArray[np.float32], landmarks: npt.NDArray[np.float32], knees: Knees
) -> dict[str, float]:
    """Accuracy, kappa, cross-entropy, and landmark errors in mm where they can be told."""
    predicted = median_grade(posterior)
    likelihood = posterior[np.arange(len(posterior)), knees.grade].clip(min=1e-9)
    figures = {
        "accuracy": round(float((predicted == knees.grade).mean()), 4),
        "kappa": round(float(cohen_kappa_score(knees.grade, predicted, weights="quadratic")), 4),
        "cross_entropy": round(float(-np.log(likelihood).mean()), 4),
    }
    if (known := knees.measured).any():
        offset = (landmarks - knees.landmarks)[known] * knees.spacing[known][:, None]
        distance = np.linalg.norm(offset, axis=-1)
        figures["landmark_median_mm"] = round(float(np.median(distance)), 3)
        figures["landmark_outliers"] = round(float((distance >= 10).mean()), 4)
    return figures


@torch.no_grad()
def pictures(module: nn.Module, knees: Knees, session: Session) -> dict[str, Picture]:
    """The first val knees above their reconstructions, and with the landmarks found."""
    assert isinstance(module, AutoencoderWithHeads)
    module.eval()
    radiographs = next(radiograph_batches(knees.pixels[:_SHOWN], session))
    latent, _ = module.encoder(radiographs)
    _, landmarks = module.classifier(latent)
    crops, decoded = (a.float().cpu().numpy()[:, 0] for a in (radiographs, module.decoder(latent)))
    return {
        "reconstructions": side_by_side(("radiographs of val", crops), ("their reconstructions", decoded)),
        "landmarks": marked_crops("landmarks found on them", crops, landmarks.float().cpu().numpy()),
    }
