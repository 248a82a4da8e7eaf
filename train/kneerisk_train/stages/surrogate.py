"""Surrogate pairs: stand-ins for two visits of one knee, where the data hold one radiograph of each.

Where nobody was radiographed twice, as in Chen's data, a pair (current, future) is made up, and whatever
learns from it forecasts a surrogate:

- A knee that stays: the knee, and itself re-cropped by a pixel or two and re-exposed.
- A knee that rises: the knee, and another one of the higher grade laid onto its landmarks.  That other is the
  same participant's other knee, mirrored, where that has the wanted grade; else the one of the wanted grade
  whose landmarks fit best among ``CANDIDATES`` drawn at random.
- How many rise, and to which grade, are a population's rates (:class:`.data.Rates`).  Which ones: a
  knee's chance is proportional to the auxiliary classifier's P(grade above the reader's), the one sign known
  to carry risk (given the reader's grade it ranks 12-month rises with AUC 0.68; see MODEL_CARD).
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kneerisk.method.exposure import equalise
from kneerisk_train.data.augment import AugmentConfig, augment
from kneerisk_train.data.knees import Knees
from kneerisk_train.run.loop import seed_of
from kneerisk_train.run.session import Session
from kneerisk_train.stages.coding import VIEW, CodedKnees, Codes, Radiograph, encode, made_batches, view_rng
from kneerisk_train.stages.vqvae import AutoencoderWithHeads

log = logging.getLogger(__name__)

RISES = 2
"""Risen futures of each knee, in its first views."""
CANDIDATES = 40
_REPOSITIONING = AugmentConfig(rotation_degrees=1, scale=0.01, aspect=0.005, shift_px=1.5, erase=0.0)
_EXPOSURE_ONLY = dataclasses.replace(_REPOSITIONING, rotation_degrees=0, scale=0, aspect=0, shift_px=0)


@dataclass(frozen=True)
class Surrogates:
    """Made-up futures of N graded knees in V views, G codebooks, latents of h by w."""

    rise_probability: npt.NDArray[np.float64]
    """[N]: how often the knee's future is one of its ``rise`` futures."""
    stay: Codes
    """[N, V, G, h, w]: the future of each view at the same grade."""
    rise: Codes
    """[N, RISES or V, G, h, w]: futures of the first views at a higher grade."""
    rise_grade: npt.NDArray[np.int64]
    """[N, RISES or V]: the higher grade; the grade itself for knees that cannot rise."""


def rise_probabilities(
    grade: npt.NDArray[np.int64], posterior: npt.NDArray[np.float32], rates: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Each knee's chance to rise: on average its grade's rate, within a grade proportional to P(higher).

    Args:
        grade: [N], the reader's.
        posterior: [N, 5], the image's P(KL).
        rates: [5, 5], P(KL at 12 months | KL now).
    """
    chance = np.zeros(len(grade))
    for now in range(4):
        members = grade == now
        if not members.any():
            continue
        higher = posterior[members, now + 1 :].sum(axis=1).astype(np.float64)
        rate = rates[now, now + 1 :].sum()
        scaled = rate * higher / higher.mean()
        # A chance is at most 0.9: what the cap takes is given back to the others.
        for _ in range(20):
            scaled = np.minimum(scaled * rate / scaled.mean(), 0.9)
        chance[members] = scaled
    return chance


def make_surrogates(
    module: AutoencoderWithHeads, knees: Knees, coded: CodedKnees, session: Session
) -> Surrogates:
    """Encode the futures of graded knees with a trained VQ-VAE; ``coded`` are their present views."""
    count, views = len(knees), coded.views
    rises = min(RISES, views)
    rates, seed = session.data.rates.moves, session.recipe.seed
    posterior, landmarks = read_knees(module, knees, session)
    log.info("surrogate futures: graded and marked %d knees", count)
    donors, rise_grade = choose_donors(
        knees, landmarks, rates, np.random.default_rng(seed_of(seed, "donors")), rises
    )

    def again(seen: Radiograph, index: int, view: int, config: AugmentConfig, what: str) -> Radiograph:
        levels = (seen.clip(0, 1) * 255).astype(np.uint8)
        rng = np.random.default_rng(seed_of(seed, what, index, view))
        return augment(levels, landmarks[index], config, rng)[0]

    def stayed(item: int) -> Radiograph:
        index, view = divmod(item, views)
        seen, _ = augment(knees.pixels[index], landmarks[index], VIEW, view_rng(seed, knees, index, view))
        return again(seen, index, view, _REPOSITIONING, "stay")

    def risen(item: int) -> Radiograph:
        index, view = divmod(item, rises)
        donor, size = donors[index, view], (knees.size, knees.size)
        onto = fit_similarity(landmarks[donor], landmarks[index])
        laid = cv2.warpAffine(knees.pixels[donor], onto, size, borderMode=cv2.BORDER_REPLICATE)
        seen, _ = augment(laid.astype(np.uint8), landmarks[index], VIEW, view_rng(seed, knees, index, view))
        return again(seen, index, view, _EXPOSURE_ONLY, "rise")

    stay = encode(module, stayed, count * views, session)
    rise = encode(module, risen, count * rises, session)
    return Surrogates(
        rise_probability=rise_probabilities(knees.grade, posterior, rates),
        stay=stay.reshape(count, views, *stay.shape[1:]),
        rise=rise.reshape(count, rises, *rise.shape[1:]),
        rise_grade=rise_grade,
    )


def choose_donors(
    knees: Knees,
    landmarks: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float64],
    rng: np.random.Generator,
    rises: int = RISES,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every knee ``rises`` knees of a higher grade, and those grades; itself where none is higher."""
    count = len(knees.grade)
    donors = np.repeat(np.arange(count)[:, None], rises, axis=1)
    grades = np.repeat(knees.grade[:, None], rises, axis=1)
    other = {(p, s): i for i, (p, s) in enumerate(zip(knees.participant, knees.side, strict=True))}
    pools = [np.flatnonzero(knees.grade == grade) for grade in range(5)]
    for index in range(count):
        now = int(knees.grade[index])
        if now == 4:
            continue
        upward = rates[now, now + 1 :] * [bool(len(pools[grade])) for grade in range(now + 1, 5)]
        if not upward.sum():
            continue
        upward = upward / upward.sum()
        for view in range(rises):
            wanted = now + 1 + int(rng.choice(len(upward), p=upward))
            grades[index, view] = wanted
            twin = other.get((knees.participant[index], "L" if knees.side[index] == "R" else "R"))
            if twin is not None and knees.grade[twin] == wanted:
                donors[index, view] = twin
                continue
            tried = rng.choice(pools[wanted], min(CANDIDATES, len(pools[wanted])), replace=False)
            misfit = [_misfit(landmarks[t], landmarks[index]) for t in tried]
            donors[index, view] = tried[int(np.argmin(misfit))]
    return donors, grades


def fit_similarity(
    source: npt.NDArray[np.float32], target: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Least-squares rotation, scale and shift, [2, 3], that takes points [K, 2] onto points [K, 2].

    In complex numbers the linear part is one factor, fitted by a scalar product.
    """
    a = source.astype(np.float64) @ np.array([1, 1j])
    b = target.astype(np.float64) @ np.array([1, 1j])
    a_mean, b_mean = a.mean(), b.mean()
    factor = np.vdot(a - a_mean, b - b_mean) / np.vdot(a - a_mean, a - a_mean)
    shift = b_mean - factor * a_mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _misfit(source: npt.NDArray[np.float32], target: npt.NDArray[np.float32]) -> float:
    matrix = fit_similarity(source, target)
    laid = source @ matrix[:, :2].T + matrix[:, 2]
    return float(np.square(laid - target).sum())


@torch.no_grad()
def read_knees(
    module: AutoencoderWithHeads, knees: Knees, session: Session
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The auxiliary classifier's P(KL) [N, 5] and landmarks [N, 16, 2] of crops as they are."""
    module.eval()
    posterior, landmarks = [], []
    for radiographs in made_batches(
        lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees), session
    ):
        with session.fabric.autocast():
            latent, _ = module.encoder(radiographs)
            p, points = module.classifier(latent)
        posterior.append(p.float().cpu().numpy())
        landmarks.append(points.float().cpu().numpy())
    return np.concatenate(posterior), np.concatenate(landmarks)
