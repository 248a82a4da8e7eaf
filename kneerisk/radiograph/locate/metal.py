"""Metal in a knee's crop: flat, the brightest there is, and ending in a sharp edge, as no bone does."""

from __future__ import annotations

import cv2
import numpy as np

from kneerisk.records import FloatArray

_BRIGHTEST = 0.998
_FLAT = 0.06
"""Metal lies within this share of the crop's grey range below its brightest pixels."""
_LEAST_AREA = 0.02
"""Share of the crop's area that a joint's metal covers at the least; screws and lead letters cover less."""


def metal_edge(pixels: FloatArray) -> float:
    """How steeply the crop's largest flat, brightest region falls off at its edge.

    Args:
        pixels: a knee's crop, float32 [S, S], bone bright, not equalised.

    Returns:
        The mean fall from the brightest to a ring 5 to 6 px outside the region, as a share of the crop's grey
        range (2nd to 99.8th percentile); 0 where no such region is large enough.
    """
    smooth = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.float32)
    low, high = (float(value) for value in np.quantile(smooth, (0.02, _BRIGHTEST)))
    span = high - low
    if span <= 0:
        return 0.0
    bright = (smooth >= high - _FLAT * span).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(bright)
    if count < 2:
        return 0.0
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    region = np.asarray(labels == largest, np.uint8)
    if region.mean() < _LEAST_AREA:
        return 0.0
    near, far = (cv2.dilate(region, np.ones((side, side), np.uint8)) for side in (9, 13))
    ring = np.asarray(far, np.uint8) > np.asarray(near, np.uint8)
    return float(((high - smooth[ring]) / span).mean()) if ring.any() else 0.0
