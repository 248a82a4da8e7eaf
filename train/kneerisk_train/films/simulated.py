"""Simulated radiographs as films for the localiser: another look at knees, with exact answers."""

from __future__ import annotations

import cv2
import numpy as np

from kneerisk.radiograph.locate.crop import WIDTH_IN_CROP, letterbox
from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph
from kneerisk_train.films import clutter
from kneerisk_train.films.films import Film, close_up, warp

SPACING_MM = 1.0
"""The films are a letterbox's size in the end: drawn no finer than this, they take a tenth of the time."""
EVALUATION_SEEDS = 1_000_000
"""Seeds from here on are never trained on."""


def simulated_film(rng: np.random.Generator, size: int) -> Film:
    """One simulated radiograph of one knee or two, marked and exposed anew, letterboxed and equalised.

    Half of the lone knees are seen close by, as :meth:`KneeLocaliser.localise` looks at them for their side.
    """
    shown = simulate_radiograph(
        int(rng.integers(EVALUATION_SEEDS)),
        view="bilateral" if rng.random() < 0.4 else "single",
        side="R" if rng.random() < 0.5 else "L",
        spacing_mm=SPACING_MM,
    )
    film = as_film(shown)
    if rng.random() < 0.5:
        _turn(film, float(rng.uniform(-10, 10)))
    if rng.random() < 0.4:
        film.pixels = clutter.film_marks(film.pixels, rng)
    if len(film.knees) == 1 and rng.random() < 0.5:
        film = _crop(film, rng)
    elif rng.random() < 0.4:
        film = close_up(film, rng, size)
    film.pixels = clutter.exposure(film.pixels, rng)
    film.pixels, to_film = letterbox(film.pixels, size)
    return film.moved(to_film)


def as_film(shown: SimulatedRadiograph) -> Film:
    """A simulated radiograph's pixels in 0..1 and its knees, as the localiser's answers give them."""
    knees = []
    for knee in shown.knees:
        x, y = knee.landmarks.mean(axis=0)
        width = float(np.ptp(knee.landmarks[:, 0]))
        knees.append((float(x), float(y), width, 0 if knee.side == "R" else 1, False))
    return Film(shown.pixels.astype(np.float32) / float(2**shown.look.bits - 1), knees)


def _crop(film: Film, rng: np.random.Generator) -> Film:
    """A square around the only knee, of one to one and a half crops a side."""
    x, y, width, side, metal = film.knees[0]
    field = round(width / WIDTH_IN_CROP * float(rng.uniform(1.0, 1.5)))
    left, top = (round(at - field * float(rng.uniform(0.44, 0.56))) for at in (x, y))
    back = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
    return Film(warp(film.pixels, back, (field, field)), [(x - left, y - top, width, side, metal)])


def _turn(film: Film, degrees: float) -> None:
    height, width = film.pixels.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    film.pixels = warp(film.pixels, turn, film.pixels.shape)
    film.knees = [
        (*(turn @ np.array([x, y, 1.0])).tolist(), wide, side, metal)
        for x, y, wide, side, metal in film.knees
    ]
