"""A film under construction: what the localiser's samples are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

FilmArray = npt.NDArray[np.float32]
Answer = tuple[float, float, float, int, bool]
"""(x, y) of the joint's middle and its width, px; 0 for a right knee as seen, 1 for a left one; implant."""


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
