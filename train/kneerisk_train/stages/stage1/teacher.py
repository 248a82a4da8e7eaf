"""Before stage 1: teachers, networks of its shape that read the radiograph without codes in between.

Codes cost accuracy while they are young, and one network's posterior is surer of a reader's grade than it
should be.  So networks without codes learn first; the average of what they read on each training knee goes
into stage 1's target (:mod:`kneerisk_train.stages.vqvae`), which starts from the first one's weights.
Distilling an average: arXiv 1503.02531.  Loss = the grades' loss + landmark distance + two terms over two
exposures of each knee: the grades read must be the same (steadiness), and so must the latent (stillness).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk_train.data.exposures import expose_twice
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import Batch, Stage, channels_last, fit, seed_of, trained_weights
from kneerisk_train.run.recipe import Recipe
from kneerisk_train.run.session import Session
from kneerisk_train.stages.losses import grade_loss, landmark_loss, steadiness_loss, stillness_loss
from kneerisk_train.stages.vqvae import Drawing, grade_figures, radiograph_batches, start_trunk

NAME = "teacher"


class Seen(NamedTuple):
    """What a teacher makes of radiographs."""

    latent: Tensor
    """[B, C, h, w]: on the spheres, before any code."""
    logits: Tensor
    landmarks: Tensor


class Teacher(nn.Module):
    """Encoder and classifier with no codes between them."""

    def __init__(self, recipe: Recipe, see: str):
        super().__init__()
        self.encoder = Encoder(recipe.vqvae.encoder)
        self.classifier = Classifier(recipe.classifier.classifier)
        self._frozen = start_trunk(self.encoder, self.classifier, recipe)
        self._sees_features = see == "features"
        if self._sees_features:
            self.classifier.stem = nn.Sequential()

    def train(self, mode: bool = True) -> Teacher:
        """Training mode for all but the blocks that keep their ImageNet weights and statistics."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, radiographs: Tensor) -> Seen:
        """Equalised radiographs [B, 1, S, S] → latents before the codes, grades, landmarks."""
        features = self.encoder.features(radiographs)
        latent = self.encoder.quantiser.to_sphere(self.encoder.project(features).float())
        logits, landmarks = self.classifier.logits(features if self._sees_features else latent)
        return Seen(latent, logits, landmarks)


def names(recipe: Recipe) -> list[str]:
    """The teachers' names, of their files in the run's folder; none where the recipe has no teacher."""
    return (
        [] if recipe.teacher is None else [f"{NAME}{place + 1}" for place in range(len(recipe.teacher.see))]
    )


def train(session: Session) -> list[nn.Module]:
    """Train every teacher of the recipe on the train split; returns their averaged weights."""
    config = session.recipe.teacher
    assert config is not None
    return [_train(session, name, see) for name, see in zip(names(session.recipe), config.see, strict=True)]


def _train(session: Session, name: str, see: str) -> nn.Module:
    recipe = session.recipe
    config = recipe.teacher
    assert config is not None
    knees, val = session.data.knees["train"], session.data.knees["val"].graded()
    torch.manual_seed(seed_of(recipe.seed, name))
    draw = Drawing(knees, config.optim.batch_size // 2, config.landmark_share, recipe)

    def batch(step: int, rng: np.random.Generator) -> Batch:
        chosen = draw(step, rng)
        radiographs, landmarks = expose_twice(knees, chosen, config.augment, rng)
        return radiographs, torch.from_numpy(knees.grade[chosen]).repeat(2), landmarks

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        radiographs, grade, landmarks = arrays
        seen: Seen = training(radiographs)
        logits = seen.logits.float()
        weighted = {
            "grade": grade_loss(logits, grade, recipe.labels),
            "landmarks": config.landmark_weight
            * landmark_loss(seen.landmarks.float(), landmarks, recipe.crop_size),
            "steadiness": config.steadiness_weight * steadiness_loss(logits),
        }
        if see == "latent":
            weighted["stillness"] = config.stillness_weight * stillness_loss(seen.latent)
        return weighted

    def figures(average: nn.Module) -> dict[str, float]:
        return grade_figures(*read(average, val, session), val)

    stage = Stage(
        name=name,
        module=Teacher(recipe, see),
        optim=config.optim,
        batch=batch,
        terms=terms,
        figures=figures,
        figures_every=config.figures_every,
    )
    return fit(session, stage)


@torch.no_grad()
def read(
    module: nn.Module, knees: Knees, session: Session
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """A teacher's P(KL) [N, 5] and landmarks [N, 16, 2] of crops as they are."""
    module.eval()
    posterior, points = [], []
    for radiographs in radiograph_batches(knees.pixels, session):
        with session.fabric.autocast():
            seen: Seen = module(radiographs)
        posterior.append(seen.logits.float().softmax(dim=1).cpu().numpy())
        points.append(seen.landmarks.float().cpu().numpy())
    return np.concatenate(posterior), np.concatenate(points)


def read_trained(session: Session, knees: Knees) -> npt.NDArray[np.float32]:
    """The average of all trained teachers' P(KL), [N, 5], of crops as they are.

    Raises:
        UsageError: a teacher has not been trained in this run.
    """
    config = session.recipe.teacher
    assert config is not None
    total = np.zeros((len(knees), 5), np.float32)
    for name, see in zip(names(session.recipe), config.see, strict=True):
        module = Teacher(session.recipe, see)
        module.load_state_dict(trained_weights(session.out, name))
        total += read(channels_last(module).to(session.device), knees, session)[0]
    return total / np.float32(len(config.see))
