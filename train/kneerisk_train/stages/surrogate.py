"""Surrogate futures: stand-ins for a second visit, where the data hold one radiograph of each knee.

Where nobody was radiographed twice, as in Chen's data, the latent a year on is made up, and whatever learns
from it forecasts a surrogate.  A reader's grade steps; the disease behind it does not:

    ẑ12 = z0 + a m_i S_i,    a exponential of mean one

- m_i, by how many grades a knee now read as i is read higher a year on, in the mean: from equations of the
  outcome (:mod:`kneerisk_train.data.equations`), scaled to a population's rates, and how far from that
  population's moves.
- S_i, a step [C, h, w]: what a latent changes by as the disease goes on from grade i.  See :func:`steps_of`.
  No knee heals: a and m are never negative.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kneerisk.models.classifier import Classifier
from kneerisk_train.data.equations import hazards, load_equations, moves_of, to_rates
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import seed_of
from kneerisk_train.run.session import Session
from kneerisk_train.stages.coding import CodedKnees, latents_of
from kneerisk_train.stages.heads import fit_head
from kneerisk_train.stages.vqvae import AutoencoderWithHeads, radiograph_batches

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]

PRIOR_PAIRS = 100.0
"""Pairs of knees as many as which the grades' means weigh in a step."""
_TRIED = 0.1
"""Of a step, by which latents are moved to see how much of a grade the classifier reads in it."""
_TRIED_KNEES = 256
_LONGEST = 10.0
"""A step is stretched no further, whatever the classifier reads: it may read nothing yet."""
_BATCH = 64


@dataclass(frozen=True)
class Surrogates:
    """What becomes of N graded knees; latents of C channels, h by w."""

    posterior: Array
    """[N, 5]: the image's P(KL now)."""
    moves: Array
    """[N, 5, 5]: P(KL j at 12 months), were the knee read as i now."""
    steps: npt.NDArray[np.float32]
    """[4, C, h, w]: the change of a latent from grade i to the next."""

    def progress(self, grade: npt.NDArray[np.int64]) -> Array:
        """Grades by which each knee, read as ``grade`` [N] now, is read higher later, in the mean: m [N]."""
        own = self.moves[np.arange(len(grade)), grade]
        return np.asarray((own * (np.arange(5) - grade[:, None])).sum(axis=1))


def make_surrogates(
    module: AutoencoderWithHeads, knees: Knees, coded: CodedKnees, session: Session
) -> Surrogates:
    """How much each knee gets worse by, and what that looks like; ``coded`` are the knees' views."""
    rates, quantiser = session.data.rates.moves, module.encoder.quantiser
    reader = fitted_classifier(module, session)
    with torch.no_grad():
        latents = torch.cat(
            [
                latents_of(quantiser, torch.from_numpy(part).to(session.device)).cpu()
                for part in np.array_split(coded.codes[:, 0], -(-len(coded.codes) // _BATCH))
            ]
        )
    posterior = read_grades(reader, latents)
    chances = to_rates(
        hazards(load_equations(session.equations), knees, posterior),
        knees.grade,
        np.triu(rates, k=1).sum(axis=1),
    )
    steps = steps_of(latents.numpy(), knees)
    stretch = stretch_of(reader, latents, knees.grade, steps, seed_of(session.recipe.seed, "stretch"))
    log.info("steps from each grade to the next, stretched by %s", np.round(stretch, 2).tolist())
    return Surrogates(posterior, moves_of(chances, rates), steps * stretch[:, None, None, None])


def steps_of(latents: npt.NDArray[np.float32], knees: Knees) -> npt.NDArray[np.float32]:
    """The mean change of a latent from each grade to the next, [4, C, h, w].

    It is that between the two knees of one participant, of one visit: one body, one film, one exposure, so
    that little but the disease tells them apart.  Least squares over all such pairs, the sides' own
    difference beside them; drawn towards the difference between the means of all knees of either grade,
    which weighs as much as ``PRIOR_PAIRS`` pairs, as few pairs leave a step mostly noise.

    Args:
        latents: [N, C, h, w].
        knees: the N graded knees.
    """
    flat = latents.reshape(len(latents), -1)
    means = np.zeros((5, flat.shape[1]))
    present = np.flatnonzero(np.bincount(knees.grade, minlength=5))
    for grade in present:
        means[grade] = flat[knees.grade == grade].mean(axis=0)
    for absent in np.setdiff1d(np.arange(5), present):  # nobody has it: as its nearest neighbour's
        means[absent] = means[present[np.argmin(np.abs(present - absent))]]
    prior = np.diff(means, axis=0)

    other = knees.other
    right = np.flatnonzero((knees.side == "R") & (other >= 0))
    left = other[right]
    levels = np.arange(4)
    passed = (knees.grade[left][:, None] > levels).astype(float) - (knees.grade[right][:, None] > levels)
    design = np.column_stack([passed, np.ones(len(left))])
    weight = np.diag([PRIOR_PAIRS] * 4 + [1e-9])
    aim = design.T @ (flat[left] - flat[right]) + weight @ np.vstack([prior, np.zeros_like(prior[:1])])
    found = np.linalg.solve(design.T @ design + weight, aim)[:4]
    return found.reshape(4, *latents.shape[1:]).astype(np.float32)


@torch.no_grad()
def stretch_of(
    reader: Classifier,
    latents: Tensor,
    grade: npt.NDArray[np.int64],
    steps: npt.NDArray[np.float32],
    seed: int,
) -> npt.NDArray[np.float32]:
    """By how much each step must be longer for the classifier to read one grade in it, [4], 1 to 10.

    A mean over many knees keeps of a disease only what they share.  Measured in small moves of knees of the
    step's own grade: from there on a classifier's answer levels off.

    Args:
        reader: of P(KL).
        latents: [N, C, h, w].
        grade: [N].
        steps: [4, C, h, w].
        seed: of the knees that are tried.
    """
    rng, stretch = np.random.default_rng(seed), np.ones(4, np.float32)
    for level in range(4):
        own = np.flatnonzero(grade == level)
        if not len(own):
            continue
        tried = latents[rng.permutation(own)[:_TRIED_KNEES]]
        before, after = (
            read_grades(reader, some) @ np.arange(5)
            for some in (tried, tried + _TRIED * torch.from_numpy(steps[level]))
        )
        read = float((after - before).mean()) / _TRIED
        stretch[level] = np.clip(1 / max(read, 1 / _LONGEST), 1, _LONGEST)
    return stretch


def fitted_classifier(module: AutoencoderWithHeads, session: Session) -> Classifier:
    """Stage 1's classifier, its temperature and biases fitted on val: equations take it at its word."""
    module.eval()
    fitted = Classifier(module.classifier.config).to(session.device).eval()
    fitted.load_state_dict(module.classifier.state_dict())
    val = session.data.knees["val"].graded()
    with torch.no_grad():
        latents = torch.cat([module.encoder(part)[0] for part in radiograph_batches(val.pixels, session)])
    fit_head(fitted, [latents], val.grade)
    return fitted


@torch.no_grad()
def read_grades(reader: Classifier, latents: Tensor) -> Array:
    """P(KL) [N, 5] of latents [N, C, h, w]."""
    device = reader.temperature.device
    read = [
        reader(part.to(device).contiguous(memory_format=torch.channels_last))[0].double().cpu().numpy()
        for part in torch.split(latents, _BATCH)
    ]
    return np.concatenate(read)
