"""Exposure: one standard grey scale for every crop, whatever the detector, window or gamma made of it."""

from __future__ import annotations

from typing import Any

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
    order = _order(np.asarray(pixels, np.promote_types(pixels.dtype, np.float32)))
    ranked = pixels.ravel()[order]
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    counts = np.diff(starts, append=ranked.size)
    standard = np.empty(ranked.size, np.float32)
    standard[order] = np.repeat(((starts + 0.5 * counts) / ranked.size).astype(np.float32), counts)
    return standard.reshape(pixels.shape)


def _order(pixels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intp]:
    """The places of finite floats, flattened, in ascending order: ``argsort``, several times as fast.

    numpy sorts integers of 16 bits by radix, so the floats' bits, made to ascend as integers do, are sorted
    16 at a time from the lowest up.
    """
    integer = np.dtype(f"i{pixels.dtype.itemsize}")
    bits = np.ascontiguousarray(pixels).ravel().view(integer)
    bits = np.where(bits < 0, bits ^ np.iinfo(integer).max, bits).astype(
        integer.newbyteorder("<"), copy=False
    )
    *lower, highest = bits.view("<u2").reshape(len(bits), -1).T
    order = np.argsort(lower[0], kind="stable")
    for digit in (*lower[1:], highest.view("<i2")):
        order = order[np.argsort(digit[order], kind="stable")]
    return order
