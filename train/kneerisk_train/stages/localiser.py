"""The localiser's training: films made of real crops and of simulated radiographs → heatmaps of their knees.

Loss = cross-entropy of the heatmaps + L1 of the log width and cross-entropy of the implant where a knee is +
cross-entropy of the reversed grey scale.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneerisk.errors import UsageError
from kneerisk.models.localiser import Localiser
from kneerisk_train.films.samples import draw_batch, render_samples, targets
from kneerisk_train.run.loop import Batch, Stage, call, fit, seed_of
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.stages.initial import load_initial

log = logging.getLogger(__name__)
NAME = "localiser"
_FILMS_FILE = "localiser-films.npz"


def localiser_loss(
    maps: Tensor, inverted: Tensor, knees: Tensor, was_inverted: Tensor, size: int
) -> dict[str, Tensor]:
    """The loss's terms, each a scalar, weighted.

    Args:
        maps: logits float32 [B, 4, c, c] (right, left, log width, implant).
        inverted: logits float32 [B].
        knees: answers float32 [B, 2, 5] as :class:`kneerisk_train.films.samples.Samples` holds them.
        was_inverted: float32 [B].
        size: pixels a side of the input.
    """
    heat, near, width, implant = targets(knees, maps.shape[-1], size)
    peaks = F.binary_cross_entropy_with_logits(maps[:, :2], heat, weight=1 + 4 * heat, reduction="sum")
    total = near.sum().clamp(min=1)
    metal = F.binary_cross_entropy_with_logits(maps[:, 3:], implant, reduction="none")
    return {
        "peaks": peaks / len(maps) / 20,
        "width": 2 * (near * (maps[:, 2:3] - width).abs()).sum() / total,
        "implant": 0.5 * (near * metal).sum() / total,
        "inverted": 0.5 * F.binary_cross_entropy_with_logits(inverted, was_inverted),
    }


def train(session: Session) -> Localiser:
    """Train on composites of the train split's crops; returns the averaged weights.

    Raises:
        UsageError: the recipe has no localiser.
    """
    recipe, config = session.recipe, session.recipe.localiser
    if config is None:
        raise UsageError(
            f"the recipe {recipe.name} has no localiser: the stack is published with the one that cut the "
            "knees out; add a section localiser to train your own"
        )
    size = config.localiser.size
    purpose = fingerprint(asdict(config.mixture), config.films, size, recipe.seed, session.data.splits_sha256)
    cache = session.out / _FILMS_FILE
    samples = render_samples(
        session.data.knees["train"], config.mixture, config.films, recipe.seed, size, cache, purpose
    )
    log.info("%d films", len(samples.pixels))
    torch.manual_seed(seed_of(recipe.seed, NAME))
    module = Localiser(config.localiser)
    if session.initial is not None:
        load_initial(session.initial, {NAME: module})

    def batch(step: int, rng: np.random.Generator) -> Batch:
        radiographs, knees, inverted = draw_batch(samples, rng, config.optim.batch_size)
        return radiographs.contiguous(memory_format=torch.channels_last), knees, inverted

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        radiographs, knees, inverted = arrays
        maps, flat = call(training, "logits", radiographs)
        return localiser_loss(maps.float(), flat.float(), knees, inverted, size)

    stage = Stage(
        name=NAME,
        module=module,
        optim=config.optim,
        batch=batch,
        terms=terms,
        forward_methods=("logits",),
    )
    trained = fit(session, stage)
    assert isinstance(trained, Localiser)
    return trained
