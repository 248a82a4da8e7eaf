"""A film under construction: what the localiser's samples are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.radiograph.locate.crop import window

FilmArray = npt.NDArray[np.float32]
Answer = tuple[float, float, float, int, bool]
"""(x, y) of the joint's middle and its width, px; 0 for a right knee as seen, 1 for a left one; implant."""
_CLOSE_WIDTHS = (1.7, 3.2)
"""Sides of a window around a knee, in joint widths."""


def blur(pixels: FilmArray, sigma: float) -> FilmArray:
    """Gaussian blur of ``sigma`` px, float32 [H, W]."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.float32)


def warp(pixels: FilmArray, affine: npt.ArrayLike, shape: tuple[int, ...], border: int = 0) -> FilmArray:
    """Move pixels by ``affine`` [2, 3] onto a film of ``shape`` (H, W), bilinear; OpenCV names ``border``."""
    size = (shape[1], shape[0])
    moved = cv2.warpAffine(
        np.ascontiguousarray(pixels), np.asarray(affine), size, flags=cv2.INTER_LINEAR, borderMode=border
    )
    return np.asarray(moved, np.float32)


def resize(pixels: FilmArray, shape: tuple[int, ...], *, shrink: bool = True) -> FilmArray:
    """Resize to ``shape`` (H, W): area-averaged where it shrinks, else bilinear."""
    way = cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
    contiguous = np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(contiguous, (shape[1], shape[0]), interpolation=way), np.float32)


@dataclass
class Film:
    """Pixels float32 [H, W] in 0..1, bone bright, and the knees on them."""

    pixels: FilmArray
    knees: list[Answer] = field(default_factory=list)

    def moved(self, to_film: FilmArray) -> Film:
        """The same pixels, the knees in pixels of a letterbox, from which ``to_film`` [2, 3] leads back.

        Knees whose middle falls outside the letterbox are dropped.
        """
        side = self.pixels.shape[0]
        moved = []
        for x, y, width, as_seen, metal in self.knees:
            x = (x - to_film[0, 2]) / to_film[0, 0]
            y = (y - to_film[1, 2]) / to_film[1, 1]
            if 0 <= x < side and 0 <= y < side:
                moved.append((float(x), float(y), float(width / to_film[0, 0]), as_seen, metal))
        return Film(self.pixels, moved)


def close_up(film: Film, rng: np.random.Generator, size: int) -> Film:
    """The film around one of its knees or, where it has none, around what might be taken for one.

    As :mod:`kneerisk.radiograph.locate.looks` looks again at what may be a knee.

    Args:
        film: pixels and knees.
        rng: draws the place and the window's side.
        size: S; a window of more than 2 S pixels a side is shrunk to that.
    """
    height, width = film.pixels.shape
    if film.knees:
        x, y, wide = film.knees[int(rng.integers(len(film.knees)))][:3]
    else:
        x, y = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.35, 0.65)
        wide = rng.uniform(0.2, 0.6) * min(height, width)
    middle = (x + rng.normal(0, 0.06) * wide, y + rng.normal(0, 0.06) * wide)
    around, scale = window(film.pixels, middle, rng.uniform(*_CLOSE_WIDTHS) * wide, most=2 * size)
    offset = [(len(around) - 1) / 2 * scale - at for at in middle]
    moved = [
        ((k[0] + offset[0]) / scale, (k[1] + offset[1]) / scale, k[2] / scale, *k[3:]) for k in film.knees
    ]
    return Film(around, moved)
