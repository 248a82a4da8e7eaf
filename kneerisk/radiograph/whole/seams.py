"""A step of brightness along a row of JPEG blocks, such as a damaged stream leaves and no radiograph has.

A block's mean is coded as its difference from the last block's. One that is read wrongly without losing the
decoder's step, of which no decoder knows, so moves all blocks behind it by one amount: those to its right,
and every row below. The border of a collimator or of a bone is a step, too, but not of one height across
the picture, nor along two rows of an 8-pixel grid that meet at a corner.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_BLOCK = 8
_SPLITS = 24
"""Places of the corner that are tried, across the picture."""
_NEAR = 0.35
"""How far a column of blocks may step from the step of all, as a share of it."""
_MOST_NEAR = 0.85
"""Share of the columns that step alike."""
_LEAST = 0.02
"""A step that counts, as a share of the picture's range."""
_OVER_OTHERS = 6.0
"""And how many times the usual step between rows of blocks."""


def has_seam(pixels: npt.NDArray[Any]) -> bool:
    """Whether all brightness below one row of blocks is moved by one amount.

    Args:
        pixels: [H, W], stored values of a picture that was coded in blocks of 8 × 8.
    """
    steps = _steps(pixels)
    if steps is None:
        return False
    low, high = np.percentile(pixels[::4, ::4], (1, 99))
    usual = float(np.median(np.abs(steps)))
    columns = steps.shape[1]
    for corner in np.unique(np.linspace(0, columns, _SPLITS, endpoint=False).astype(int)):
        # Left of the damaged block the step comes one row of blocks later.
        joined = np.concatenate([steps[1:, :corner], steps[:-1, corner:]], axis=1)
        step = np.median(joined, axis=1, keepdims=True)
        height = np.abs(step[:, 0])
        alike = np.mean(np.abs(joined - step) < _NEAR * np.abs(step), axis=1)
        if np.any((alike > _MOST_NEAR) & (height > _LEAST * (high - low)) & (height > _OVER_OTHERS * usual)):
            return True
    return False


def _steps(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    """[rows of blocks - 1, columns of blocks]: what brightness does at their borders beyond its own slope."""
    height, width = (side // _BLOCK * _BLOCK for side in pixels.shape)
    if min(height, width) < 8 * _BLOCK:
        return None
    blocks = pixels[:height, :width].astype(np.float32).reshape(height, width // _BLOCK, _BLOCK).mean(axis=2)
    first, second = blocks[::_BLOCK], blocks[1::_BLOCK]
    before, last = blocks[_BLOCK - 2 :: _BLOCK], blocks[_BLOCK - 1 :: _BLOCK]
    jump = first[1:] - last[:-1]
    slope = ((last[:-1] - before[:-1]) + (second[1:] - first[1:])) / 2
    found: npt.NDArray[np.float32] = jump - slope
    return found
