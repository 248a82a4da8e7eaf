"""Exposure: one standard grey scale for every crop, whatever the detector, window or gamma made of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_UINT16_LEVELS = 1 << 16


def equalise(pixels: npt.NDArray[np.float32] | npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Rank histogram equalisation: each pixel becomes the share of the crop's pixels darker than it.

    Equal values share their mid-rank, so the result is the same, to rounding, under every strictly increasing
    re-exposure (window, gamma, modality LUT, bit depth), and inverting the input gives one minus the output.

    Args:
        pixels: [H, W], float32 of any finite range, or uint16; bone bright.

    Returns:
        float32 [H, W] in 0..1 with mean 0.5.
    """
    if pixels.dtype == np.uint16:
        counts = np.bincount(pixels.ravel(), minlength=_UINT16_LEVELS)
        table = (np.cumsum(counts) - 0.5 * counts) / pixels.size
        return table.astype(np.float32)[pixels]
    _, inverse, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    midrank = (np.cumsum(counts) - 0.5 * counts) / pixels.size
    return midrank.astype(np.float32)[inverse].reshape(pixels.shape)
