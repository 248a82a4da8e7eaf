"""Surrogate pairs: stand-ins for two visits of one knee, where the data hold one radiograph of each.

Nobody in Chen's data was radiographed twice.  A pair (current, future) is therefore made up, and whatever
learns from it forecasts a surrogate:

- A knee that stays: the knee, and itself re-cropped by a pixel or two and re-exposed.
- A knee that rises: the knee, and another one of the higher grade laid onto its landmarks.  That other is the
  same participant's other knee, mirrored, where that has the wanted grade; else the one of the wanted grade
  whose landmarks fit best among ``CANDIDATES`` drawn at random.
- How many rise, and to which grade, are the rates of ``kl_transitions.csv``.  Which ones: a knee's chance is
  proportional to the auxiliary classifier's P(grade above the reader's), the one sign known to carry risk
  (given the reader's grade it ranks 12-month rises with AUC 0.68; see MODEL_CARD).
"""

from __future__ import annotations

import csv
import dataclasses
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kneerisk.errors import UsageError
from kneerisk.exposure import equalise
from train import chen
from train.augment import AugmentConfig, augment, draw_affine, move
from train.loop import prefetch
from train.vqvae import AutoencoderWithHeads

log = logging.getLogger(__name__)

VIEWS = 3
RISES = 2
CANDIDATES = 40
_BATCH = 64
_FIRST_VISIT = AugmentConfig(rotation_degrees=5, scale=0.08, aspect=0.08, shift_px=8, erase=0.0)
_REPOSITIONING = AugmentConfig(rotation_degrees=1, scale=0.01, aspect=0.005, shift_px=1.5, erase=0.0)
_EXPOSURE_ONLY = dataclasses.replace(_REPOSITIONING, rotation_degrees=0, scale=0, aspect=0, shift_px=0)

Codes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Pairs:
    """Code indices of surrogate pairs; N knees, codebooks G, latents of h by w."""

    grade: npt.NDArray[np.int64]
    """[N]: the reader's grade now."""
    rise_probability: npt.NDArray[np.float64]
    """[N]: how often the knee's future is one of its ``rise`` futures."""
    current: Codes
    """[N, VIEWS, G, h, w]."""
    stay: Codes
    """[N, VIEWS, G, h, w]: the future of ``current`` at the same grade."""
    rise: Codes
    """[N, RISES, G, h, w]: futures of ``current[:, :RISES]`` at a higher grade."""
    rise_grade: npt.NDArray[np.int64]
    """[N, RISES]: the higher grade; the grade itself for knees that cannot rise."""
    current_landmarks: npt.NDArray[np.float32]
    """[N, VIEWS, 16, 2] in crop pixels, NaN where nobody marked them."""

    def save(self, path: Path) -> None:
        """Write all arrays as one npz."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @staticmethod
    def load(path: Path) -> Pairs:
        """Read what :meth:`save` wrote."""
        with np.load(path) as arrays:
            return Pairs(**{field.name: arrays[field.name] for field in dataclasses.fields(Pairs)})


def transition_rates(path: Path, months: int = 12) -> npt.NDArray[np.float64]:
    """P(KL at ``months`` | KL now), [5, 5], from a table with columns months, kl_now, p_kl0 … p_kl4.

    Raises:
        UsageError: where the table lacks a grade at that month, or a row does not sum to one.
    """
    rates = np.full((5, 5), np.nan)
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if int(row["months"]) == months:
                rates[int(row["kl_now"])] = [float(row[f"p_kl{grade}"]) for grade in range(5)]
    if not np.allclose(rates.sum(axis=1), 1, atol=1e-3):
        raise UsageError(f"{path}: the {months}-month rates of every grade must be there and sum to one")
    return rates


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
        higher = posterior[members, now + 1 :].sum(axis=1).astype(np.float64)
        rate = rates[now, now + 1 :].sum()
        scaled = rate * higher / higher.mean()
        # A chance is at most 0.9: what the cap takes is given back to the others.
        for _ in range(20):
            scaled = np.minimum(scaled * rate / scaled.mean(), 0.9)
        chance[members] = scaled
    return chance


def build(
    module: AutoencoderWithHeads, knees: chen.Knees, rates: npt.NDArray[np.float64], seed: int
) -> Pairs:
    """Encode every knee's surrogate pairs with a trained VQ-VAE."""
    module.eval()
    count = len(knees.grade)
    posterior, landmarks = read_knees(module, knees)
    log.info("graded and marked %d knees", count)
    rng = np.random.default_rng((seed, 2))
    donors, rise_grade = choose_donors(knees, landmarks, rates, rng)

    def first_visit(index: int, view: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        return augment(knees.pixels[index], knees.landmarks[index], _FIRST_VISIT, _rng(seed, 3, index, view))

    def second_visit(index: int, view: int) -> npt.NDArray[np.float32]:
        seen, _ = first_visit(index, view)
        levels = (seen.clip(0, 1) * 255).astype(np.uint8)
        return augment(levels, knees.landmarks[index], _REPOSITIONING, _rng(seed, 4, index, view))[0]

    def risen(index: int, view: int) -> npt.NDArray[np.float32]:
        donor = donors[index, view]
        onto = fit_similarity(landmarks[donor], landmarks[index])
        size = (chen.CROP_SIZE, chen.CROP_SIZE)
        laid = cv2.warpAffine(knees.pixels[donor], onto, size, borderMode=cv2.BORDER_REPLICATE)
        again, _ = augment(laid.astype(np.uint8), landmarks[index], _FIRST_VISIT, _rng(seed, 3, index, view))
        levels = (again.clip(0, 1) * 255).astype(np.uint8)
        return augment(levels, landmarks[index], _EXPOSURE_ONLY, _rng(seed, 5, index, view))[0]

    def first_landmarks(index: int, view: int) -> npt.NDArray[np.float32]:
        matrix = draw_affine(chen.CROP_SIZE, _FIRST_VISIT, _rng(seed, 3, index, view))
        return move(knees.landmarks[index], matrix)

    views = [first_landmarks(i, v) for i in range(count) for v in range(VIEWS)]
    current = encode(module, lambda k: first_visit(*divmod(k, VIEWS))[0], count * VIEWS)
    stay = encode(module, lambda k: second_visit(*divmod(k, VIEWS)), count * VIEWS)
    rise = encode(module, lambda k: risen(*divmod(k, RISES)), count * RISES)
    return Pairs(
        grade=knees.grade,
        rise_probability=rise_probabilities(knees.grade, posterior, rates),
        current=current.reshape(count, VIEWS, *current.shape[1:]),
        stay=stay.reshape(count, VIEWS, *current.shape[1:]),
        rise=rise.reshape(count, RISES, *current.shape[1:]),
        rise_grade=rise_grade,
        current_landmarks=np.stack(views).reshape(count, VIEWS, 16, 2),
    )


def choose_donors(
    knees: chen.Knees,
    landmarks: npt.NDArray[np.float32],
    rates: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every knee, RISES knees of a higher grade, and those grades; itself where its grade is 4."""
    count = len(knees.grade)
    donors = np.repeat(np.arange(count)[:, None], RISES, axis=1)
    grades = np.repeat(knees.grade[:, None], RISES, axis=1)
    other = {(p, s): i for i, (p, s) in enumerate(zip(knees.participant, knees.side, strict=True))}
    pools = [np.flatnonzero(knees.grade == grade) for grade in range(5)]
    for index in range(count):
        now = int(knees.grade[index])
        if now == 4:
            continue
        upward = rates[now, now + 1 :] / rates[now, now + 1 :].sum()
        for view in range(RISES):
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
    module: AutoencoderWithHeads, knees: chen.Knees
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The auxiliary classifier's P(KL) [N, 5] and landmarks [N, 16, 2] of crops as they are."""
    posterior, landmarks = [], []
    for radiographs in batches(lambda i: equalise(knees.pixels[i].astype(np.uint16)), len(knees.grade)):
        with torch.autocast("cpu", torch.bfloat16):
            latent, _ = module.encoder(radiographs)
            p, points = module.classifier(latent)
        posterior.append(p.float().numpy())
        landmarks.append(points.numpy())
    return np.concatenate(posterior), np.concatenate(landmarks)


@torch.no_grad()
def encode(module: AutoencoderWithHeads, make: Callable[[int], npt.NDArray[np.float32]], count: int) -> Codes:
    """Codes int16 [count, G, h, w] of ``count`` equalised radiographs."""
    codes = []
    for number, radiographs in enumerate(batches(make, count)):
        with torch.autocast("cpu", torch.bfloat16):
            quantised = module.encoder.quantise(radiographs)
        codes.append(quantised.indices.numpy().astype(np.int16))
        if number % 50 == 0:
            log.info("encoded %d of %d", number * _BATCH, count)
    return np.concatenate(codes)


def batches(make: Callable[[int], npt.NDArray[np.float32]], count: int) -> Iterator[torch.Tensor]:
    """Equalised radiographs in order, [B, 1, S, S], made ahead by a thread."""

    def batch(step: int) -> torch.Tensor:
        span = range(step * _BATCH, min(count, (step + 1) * _BATCH))
        stacked = torch.from_numpy(np.stack([make(index) for index in span]))[:, None]
        return stacked.to(memory_format=torch.channels_last)

    yield from prefetch(batch, 0, -(-count // _BATCH))


def _rng(*seeds: int) -> np.random.Generator:
    return np.random.default_rng(seeds)
