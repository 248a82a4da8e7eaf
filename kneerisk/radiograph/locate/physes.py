"""Open growth plates in a knee's crop: a dark line across the thigh bone, and one across the shin bone.

A child's knee has no grade to read, and networks that never saw one read KL 3 or 4. No child's radiograph was
at hand: the cut was chosen on Chen's train crops, of which it flags 0.2 % (of any grade), and on lines drawn
on them, of which it flags 98 %. **Unvalidated** on children; it stays a flag.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from kneerisk.radiograph.locate.crop import JOINT_IN_CROP
from kneerisk.records import FloatArray

PLATES = 0.11
"""Darkness of both lines together, as a share of the grey range, from which the plates look open ..."""
EITHER = 0.03
"""... if either line has so much of it."""
_BRIGHTEST = 0.998
_BLUR, _ASIDE = 1.2, 6
"""Pixels, of a crop of 224: the crop is blurred by, and so far above and below a line bone is brighter."""
_MOST_DARK = 0.12
"""A darker gap is a joint's, and counts as this much."""
_ACROSS = (0.20, 0.785)
"""Columns looked at, as shares of the crop's side: the inner part of the joint's width."""
_ABOVE, _BELOW = (-0.33, -0.10), (0.073, 0.27)
"""Rows looked at, from the joint's middle, as shares of the crop's side."""
_STEP = 2
"""Columns are taken by twos."""
_A_ROW_EITHER_WAY: Final = np.ones((3, 1), np.uint8)


def growth_plates(pixels: FloatArray) -> tuple[float, float]:
    """How dark the darkest line across each bone is, above the joint and below it.

    Args:
        pixels: a knee's crop, float32 [S, S], bone bright.

    Returns:
        Means along the line, as shares of the crop's grey range, 0 for none.
    """
    low, high = (float(value) for value in np.quantile(pixels[::2, ::2], (0.02, _BRIGHTEST)))
    if high <= low:
        return 0.0, 0.0
    side = len(pixels)
    smooth = np.asarray(cv2.GaussianBlur((pixels - low) / (high - low), (0, 0), _BLUR), np.float32)
    first, last = (round(share * side) for share in _ACROSS)
    smooth = smooth[:, first : last - (last - first) % _STEP]
    smooth = smooth.reshape(side, -1, _STEP).mean(axis=2)
    darker = np.minimum(np.roll(smooth, _ASIDE, 0), np.roll(smooth, -_ASIDE, 0)) - smooth
    joint = JOINT_IN_CROP[1] * side
    above, below = (
        _darkest_line(darker[round(joint + start * side) : round(joint + stop * side)])
        for start, stop in (_ABOVE, _BELOW)
    )
    return above, below


def plates_open(pixels: FloatArray) -> bool:
    """Whether growth plates look open on both bones of a knee's crop, float32 [S, S]."""
    lines = growth_plates(pixels)
    return min(lines) >= EITHER and sum(lines) >= PLATES


def _darkest_line(darker: FloatArray) -> float:
    """The greatest mean along a line from the first column to the last that moves by a row a column."""
    gain = np.clip(darker, -_MOST_DARK, _MOST_DARK)
    best = gain[:, :1]
    for column in range(1, gain.shape[1]):
        best = gain[:, column : column + 1] + np.asarray(cv2.dilate(best, _A_ROW_EITHER_WAY), np.float32)
    return float(max(0.0, best.max() / gain.shape[1]))
