"""Surrogate pairs: stand-ins for two visits of one knee, where the data hold one radiograph of each.

Where nobody was radiographed twice, as in Chen's data, a pair (current, future) is made up, and whatever
learns from it forecasts a surrogate:

- A knee that stays: the knee and itself, the very same latent.
- A knee that rises: the knee, and another one of the higher grade laid onto its landmarks.  That other is the
  same participant's other knee, mirrored, where that has the wanted grade; else the one of the wanted grade
  whose landmarks fit best among ``CANDIDATES`` drawn at random.  Both are seen through the same view:
  position, exposure, blur and noise are one draw for the two.
- Which rise is drawn from equations of the outcome (:mod:`.equations`), scaled to a population's rates
  (:class:`.data.Rates`); how far, from that population's moves.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kneerisk.models.classifier import Classifier
from kneerisk_train.data.equations import hazards, load_equations, moves_of, to_rates
from kneerisk_train.data.knees import Knees
from kneerisk_train.data.labels import draw_chances
from kneerisk_train.run.loop import seed_of
from kneerisk_train.run.session import Session
from kneerisk_train.stages.coding import CodedKnees, Codes, Radiograph, encode, latents_of, see, view_rng
from kneerisk_train.stages.heads import fit_head
from kneerisk_train.stages.vqvae import AutoencoderWithHeads, radiograph_batches

log = logging.getLogger(__name__)

CANDIDATES = 40


@dataclass(frozen=True)
class Surrogates:
    """Made-up futures of N graded knees, G codebooks, latents of h by w; M futures at a higher grade."""

    posterior: npt.NDArray[np.float64]
    """[N, 5]: the image's P(KL now)."""
    moves: npt.NDArray[np.float64]
    """[N, 5, 5]: P(KL j at 12 months), were the knee read as i now."""
    risen: Codes
    """[M, G, h, w]: the futures of knees that rise."""
    knee: npt.NDArray[np.int64]
    """[M]: whose future; a knee is drawn as often as its chance to rise says."""
    view: npt.NDArray[np.int64]
    """[M]: through which view it is seen."""
    grade: npt.NDArray[np.int64]
    """[M]: the higher grade."""


def make_surrogates(
    module: AutoencoderWithHeads, knees: Knees, coded: CodedKnees, session: Session
) -> Surrogates:
    """Draw who rises and how far, and encode those futures; ``coded`` are the knees' present views."""
    rates, seed = session.data.rates.moves, session.recipe.seed
    posterior, landmarks = read_codes(module, coded, session)
    chances = to_rates(
        hazards(load_equations(session.equations), knees, posterior),
        knees.grade,
        np.triu(rates, k=1).sum(axis=1),
    )
    moves = moves_of(chances, rates)
    rng = np.random.default_rng(seed_of(seed, "rises"))
    weight = draw_chances(knees.grade, session.recipe.labels.balance)
    rising, wanted = draw_rises(moves, knees.grade, weight, session.recipe.diffusion.rises, rng)
    view = rng.integers(0, coded.views, len(rising))
    donors = choose_donors(knees, landmarks, rising, wanted, rng)
    log.info("surrogate futures: %d rises drawn, of %d knees", len(rising), len(np.unique(rising)))

    def risen(item: int) -> Radiograph:
        index, donor, size = int(rising[item]), donors[item], (knees.size, knees.size)
        onto = fit_similarity(landmarks[donor], landmarks[index])
        laid = cv2.warpAffine(
            knees.pixels[donor], onto, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        seen_in = int(view[item])
        rng = view_rng(seed, knees, index, seen_in)
        return see(laid.astype(np.uint8), landmarks[index], rng, seen_in)

    codes = encode(module, risen, len(rising), session)
    return Surrogates(posterior, moves, codes, rising, view, wanted)


def draw_rises(
    moves: npt.NDArray[np.float64],
    grade: npt.NDArray[np.int64],
    weight: npt.NDArray[np.float64],
    count: int,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``count`` rises: which knee, as often as its chance says, and to which grade.

    Args:
        moves: [N, 5, 5], P(later | now) of each knee.
        grade: [N], the readers': where a knee starts from.
        weight: [N], how often each knee is drawn, rising or not.
        count: rises to draw; none are drawn where no knee can rise.
        rng: the generator.

    Returns:
        Knees [M] and their higher grades [M].
    """
    there = np.arange(5) > grade[:, None]
    present = [bool((grade == higher).any()) for higher in range(5)]
    upward = moves[np.arange(len(grade)), grade] * there * present * weight[:, None]
    total = upward.sum()
    if not total > 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    drawn = rng.choice(upward.size, count, p=(upward / total).ravel())
    return np.asarray(drawn // 5, np.int64), np.asarray(drawn % 5, np.int64)


def choose_donors(
    knees: Knees,
    landmarks: npt.NDArray[np.float32],
    rising: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """For each rise a knee [M] of the wanted grade: see the module's docstring."""
    place = zip(knees.participant, knees.month, knees.side, strict=True)
    other = {key: index for index, key in enumerate(place)}
    pools = [np.flatnonzero(knees.grade == grade) for grade in range(5)]
    donors = np.empty(len(rising), np.int64)
    for item, (index, higher) in enumerate(zip(rising, wanted, strict=True)):
        across = "L" if knees.side[index] == "R" else "R"
        twin = other.get((knees.participant[index], knees.month[index], across))
        if twin is not None and knees.grade[twin] == higher:
            donors[item] = twin
            continue
        tried = rng.choice(pools[higher], min(CANDIDATES, len(pools[higher])), replace=False)
        misfit = [_misfit(landmarks[t], landmarks[index]) for t in tried]
        donors[item] = tried[int(np.argmin(misfit))]
    return donors


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
def read_codes(
    module: AutoencoderWithHeads, coded: CodedKnees, session: Session
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """P(KL) [N, 5] and landmarks [N, 16, 2] of crops as they are, by stage 1's classifier.

    Its temperature and biases are fitted on val first: the equations take a posterior at its word.
    """
    module.eval()
    fitted = Classifier(module.classifier.config).to(session.device).eval()
    fitted.load_state_dict(module.classifier.state_dict())
    val = session.data.knees["val"].graded()
    latents = torch.cat([module.encoder(part)[0] for part in radiograph_batches(val.pixels, session)])
    fit_head(fitted, [latents], val.grade)
    posterior, landmarks = [], []
    for part in torch.split(torch.from_numpy(coded.codes[:, 0]), 64):
        p, points = fitted(latents_of(module.encoder.quantiser, part.to(session.device)))
        posterior.append(p.double().cpu().numpy())
        landmarks.append(points.float().cpu().numpy())
    return np.concatenate(posterior), np.concatenate(landmarks)
