"""The localiser's samples: rendered once, kept as bytes, varied in every batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kneerisk_train.data.knees import Knees
from kneerisk_train.films.composites import render
from kneerisk_train.films.films import Film
from kneerisk_train.films.simulated import simulated_film

SIGMA_CELLS = 1.5
"""Spread of a knee's peak in the heatmap, cells of 4 px."""
MOST_KNEES = 2


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of film, relative to each other."""

    both: float = 0.34
    single: float = 0.2
    crop: float = 0.2
    none: float = 0.16
    simulated: float = 0.1

    def kinds(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Names and probabilities."""
        shares = np.array([self.both, self.single, self.crop, self.none, self.simulated])
        return ["both", "single", "crop", "none", "simulated"], shares / shares.sum()


@dataclass(frozen=True)
class Samples:
    """N letterboxed films with their knees."""

    pixels: npt.NDArray[np.uint8]
    """[N, S, S], equalised, 0..255."""
    knees: npt.NDArray[np.float32]
    """[N, 2, 5]: x, y, width (px of S), side as seen (0 right, 1 left), implant; NaN where there is none."""


def render_samples(
    knees: Knees, mixture: Mixture, count: int, seed: int, size: int, cache: Path, purpose: str
) -> Samples:
    """Render ``count`` films, or read them back from ``cache`` where they were kept for the same purpose."""
    if cache.exists():
        with np.load(cache) as stored:
            if str(stored["purpose"]) == purpose:
                return Samples(stored["pixels"], stored["knees"])
    names, shares = mixture.kinds()
    pixels = np.empty((count, size, size), np.uint8)
    answers = np.full((count, MOST_KNEES, 5), np.nan, np.float32)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        kind = str(rng.choice(names, p=shares))
        film = simulated_film(rng, size) if kind == "simulated" else render(knees, rng, kind, size)
        _store(film, pixels[index], answers[index])
    aside = cache.with_name(cache.name + ".writing.npz")
    np.savez(aside, pixels=pixels, knees=answers, purpose=np.array(purpose))
    aside.replace(cache)
    return Samples(pixels, answers)


def _store(film: Film, pixels: npt.NDArray[np.uint8], answers: npt.NDArray[np.float32]) -> None:
    pixels[:] = np.round(film.pixels * 255)
    for row, knee in zip(answers, film.knees, strict=False):
        row[:] = knee


def draw_batch(samples: Samples, rng: np.random.Generator, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """A batch at random, mirrored (sides swapped) or with its grey scale reversed at times.

    Returns:
        radiographs float32 [B, 1, S, S]; knees float32 [B, 2, 5]; inverted float32 [B].
    """
    chosen = rng.integers(len(samples.pixels), size=batch)
    pixels = samples.pixels[chosen].astype(np.float32) / 255
    knees = samples.knees[chosen].copy()
    inverted = rng.random(batch) < 0.2
    for index in range(batch):
        if inverted[index]:
            _reverse_grey(pixels[index])
        if rng.random() < 0.5:
            pixels[index] = pixels[index, :, ::-1]
            knees[index, :, 0] = pixels.shape[2] - 1 - knees[index, :, 0]
            knees[index, :, 3] = 1 - knees[index, :, 3]
    return (
        torch.from_numpy(pixels)[:, None],
        torch.from_numpy(knees),
        torch.from_numpy(inverted.astype(np.float32)),
    )


def _reverse_grey(square: npt.NDArray[np.float32]) -> None:
    """Reverse the film within its letterbox (the padding stays zero), in place."""
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    if len(rows) and len(columns):
        inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        square[inner] = 1 - square[inner]


def targets(knees: Tensor, cells: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Answers [B, 2, 5] → heatmaps [B, 2, c, c]; a knee's weight, log width, implant, [B, 1, c, c] each."""
    stride = size / cells
    grid = (torch.arange(cells, device=knees.device) + 0.5) * stride - 0.5
    known = knees[..., 0].isfinite()
    answers = knees.nan_to_num()
    across = grid[None, None, None, :] - answers[..., 0, None, None]
    down = grid[None, None, :, None] - answers[..., 1, None, None]
    peaks = torch.exp(-(across**2 + down**2) / (2 * (SIGMA_CELLS * stride) ** 2)) * known[..., None, None]
    left = (answers[..., 3] > 0.5)[..., None, None]
    heat = torch.stack([(peaks * ~left).amax(1), (peaks * left).amax(1)], dim=1)
    near, owner = peaks.max(dim=1, keepdim=True)
    width = (answers[..., 2] / size).clamp(min=1e-3).log()[..., None, None].expand_as(peaks).gather(1, owner)
    implant = answers[..., 4][..., None, None].expand_as(peaks).gather(1, owner)
    return heat, near * (near > 0.3), width, implant
