"""Exposure: one standard grey scale for every crop, whatever the detector, window or gamma made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.records import GREY_STEPS

_UINT16_LEVELS = 1 << 16


def equalise(pixels: npt.NDArray[np.float32] | npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Rank histogram equalisation: each pixel becomes the share of the crop's pixels darker than it.

    Equal values share their mid-rank, so the result is the same, to rounding, under every strictly increasing
    re-exposure (window, gamma, modality LUT, bit depth), and inverting the input gives one minus the output.
    Floats are equal where they round to one step of the grey scale: what only rounding parts (a grey scale
    turned twice, a resize by another machine's instructions) has one rank.

    Args:
        pixels: [H, W], float32 in 0..1 (what lies beyond counts as 0 or 1), or uint16; bone bright.

    Returns:
        float32 [H, W] in 0..1 with mean 0.5.
    """
    if pixels.dtype == np.uint16:
        return _ranked(pixels.astype(np.int32), _UINT16_LEVELS)
    # Halves go to the even step, which inverting leaves even.  An interpolation may overshoot the scale.
    levels = np.rint(pixels * GREY_STEPS).clip(0, GREY_STEPS).astype(np.int32)
    return _ranked(levels, GREY_STEPS + 1)


def _ranked(levels: npt.NDArray[np.integer[Any]], count: int) -> npt.NDArray[np.float32]:
    counts = np.bincount(levels.ravel(), minlength=count)
    table: npt.NDArray[np.float32] = ((np.cumsum(counts) - 0.5 * counts) / levels.size).astype(np.float32)
    return np.asarray(table[levels])
