"""How still a knee stays when nothing changed but its position by a pixel or two and its exposure.

What this moves, a forecast cannot tell from disease: a real year moves the expected grade by 0.05 to 0.11.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kneerisk.models.classifier import Classifier
from kneerisk.models.vqvae import Encoder
from kneerisk_train.data.augment import AugmentConfig, augment
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import seed_of
from kneerisk_train.run.session import Session
from kneerisk_train.stages.coding import made_batches

STAY = AugmentConfig(rotation_degrees=1, scale=0.01, aspect=0.005, shift_px=1.5, erase=0.0)
"""Repositioned by a pixel or two and exposed anew: brightness field, blur, pixel noise."""


@torch.no_grad()
def stay_figures(
    encoder: Encoder, classifier: Classifier, knees: Knees, session: Session, config: AugmentConfig = STAY
) -> dict[str, float]:
    """Each knee as it is against itself repositioned and exposed anew.

    Returns:
        ``stay_grade_sd``, the standard deviation of the expected grade's change, and ``stay_latent``, the
        mean square of the latent's (its own mean square is 1, and unrelated knees differ by about that).
    """
    encoder.eval()
    classifier.eval()
    seed = session.recipe.seed

    def plain(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return augment(knees.pixels[index], knees.landmarks[index], _NOTHING, np.random.default_rng(0))[0]

    def stayed(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        rng = np.random.default_rng(seed_of(seed, "stay", index))
        return augment(knees.pixels[index], knees.landmarks[index], config, rng)[0]

    def seen(radiographs: Tensor) -> tuple[Tensor, Tensor]:
        latent, _ = encoder(radiographs)
        return latent, classifier(latent)[0] @ torch.arange(5.0, device=latent.device)

    changes, moved = [], 0.0
    both = (made_batches(make, len(knees), session) for make in (plain, stayed))
    for before, after in zip(*both, strict=True):
        (latent, grade), (latent_after, grade_after) = seen(before), seen(after)
        changes.append(grade_after - grade)
        moved += float((latent_after - latent).square().mean(dim=(1, 2, 3)).sum())
    return {
        "stay_grade_sd": round(torch.cat(changes).std().item(), 4),
        "stay_latent": round(moved / len(knees), 4),
    }


_NOTHING = AugmentConfig(
    rotation_degrees=0, scale=0, aspect=0, shift_px=0, field=0, blur_px=0, noise=0, erase=0
)
