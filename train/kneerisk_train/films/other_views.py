"""Simulated films of other views and joints, for the localiser to refuse: alone, in pairs, from close by.

Drawn by :mod:`kneerisk.simulate.other_views` and bent, so that it is not these few drawings that are learnt.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from kneerisk.simulate.other_views import PARTS, simulate_other_view
from kneerisk_train.films import clutter
from kneerisk_train.films.films import Film, FilmArray, resize

HELD_OUT: Final = ("foot",)
"""Never trained on: it tells whether what was not drawn for training is refused too."""
_TRAINED: Final = tuple(part for part in sorted(PARTS) if part not in HELD_OUT)
_WEIGHTS: Final = {"ankle": 2.0, "elbow": 2.0}
"""How often a part is drawn, 1 for the others: these look most like a knee."""
_SEEDS: Final = (1_000_000, 2_000_000)
"""Seeds below chose cuts and are measured on."""
_BEND, _STRETCH = 0.035, 0.15
"""Of a drawing's bending, as a share of its sides, and of its stretching: standard deviations."""


def other_view(rng: np.random.Generator) -> FilmArray:
    """One drawing of another view or joint, bent and stretched: float32 [H, W] in 0..1, bone bright."""
    shares = np.array([_WEIGHTS.get(part, 1.0) for part in _TRAINED])
    part = str(rng.choice(_TRAINED, p=shares / shares.sum()))
    return _bent(simulate_other_view(int(rng.integers(*_SEEDS)), part), rng)


def other_film(rng: np.random.Generator) -> Film:
    """A film without a frontal knee, of one such drawing or two, marked and exposed anew."""
    drawn = other_view(rng)
    if rng.random() < 0.2:
        drawn = np.concatenate([drawn, drawn[:, ::-1] if rng.random() < 0.5 else _like(drawn, rng)], axis=1)
    return Film(clutter.exposure(clutter.film_marks(drawn, rng), rng))


def with_panel(film: Film, rng: np.random.Generator) -> Film:
    """The film with another view on a panel at its left or its right."""
    panel = _like(film.pixels, rng)
    first = rng.random() < 0.5
    shift = panel.shape[1] if first else 0
    pixels = np.concatenate([panel, film.pixels] if first else [film.pixels, panel], axis=1)
    return Film(pixels, [(knee[0] + shift, *knee[1:]) for knee in film.knees])


def _like(pixels: FilmArray, rng: np.random.Generator) -> FilmArray:
    """A drawing as high as ``pixels``."""
    drawn, high = other_view(rng), pixels.shape[0]
    return resize(drawn, (high, max(8, round(drawn.shape[1] * high / drawn.shape[0]))))


def _bent(pixels: FilmArray, rng: np.random.Generator) -> FilmArray:
    height, width = pixels.shape
    grid = rng.normal(0, _BEND, (2, 4, 4)).astype(np.float32) * np.array([[[width]], [[height]]], np.float32)
    across, down = (cv2.resize(axis, (width, height), interpolation=cv2.INTER_CUBIC) for axis in grid)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bent = cv2.remap(pixels, x + across, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    wide, high = np.exp(rng.normal(0, _STRETCH, 2))
    return resize(np.asarray(bent, np.float32), (round(height * high), round(width * wide)), shrink=False)
