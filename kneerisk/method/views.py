"""Looks at one crop: resized for a stack, upscaled at test time, or at several zooms, posteriors averaged.

Ours, not the paper's.  How closely a crop is framed is partly chance; a mean over several frames depends less
on it, and agrees with readers more often (MODEL_CARD has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kneerisk.method.exposure import equalise
from kneerisk.records import FloatArray

UPSCALE = 2
_LEVELS = 65535
_LEAST = 1e-9


def zoomed(radiograph: FloatArray, zoom: float) -> FloatArray:
    """An equalised crop seen closer (``zoom`` above 1) or from further away, equalised again.

    Args:
        radiograph: float32 [S, S] in 0..1.
        zoom: of the picture about its middle; 1 gives the crop itself.

    Returns:
        float32 [S, S] in 0..1; beyond the crop's border its edge goes on.
    """
    if zoom == 1:
        return radiograph
    import cv2

    size = radiograph.shape[0]
    middle = (size - 1) / 2
    affine = np.array([[zoom, 0, (1 - zoom) * middle], [0, zoom, (1 - zoom) * middle]])
    levels = np.round(radiograph * _LEVELS).astype(np.uint16)
    moved = cv2.warpAffine(levels, affine, (size, size), borderMode=cv2.BORDER_REPLICATE)
    return equalise(np.asarray(moved, np.uint16))


def mean_posterior(posteriors: Sequence[FloatArray]) -> FloatArray:
    """Geometric mean of posteriors [..., K], each summing to one, and so does the result, float32."""
    logs = np.mean([np.log(np.maximum(p, _LEAST)) for p in posteriors], axis=0)
    mean = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return np.asarray(mean / mean.sum(axis=-1, keepdims=True), dtype=np.float32)


def resized(pixels: FloatArray, size: int) -> FloatArray:
    """A crop [S, S] in 0..1 on ``size`` pixels a side."""
    import cv2

    if pixels.shape[0] == size:
        return pixels
    method = cv2.INTER_AREA if size < pixels.shape[0] else cv2.INTER_CUBIC
    return np.clip(cv2.resize(pixels, (size, size), interpolation=method), 0.0, 1.0)


def upscaled(pixels: FloatArray) -> FloatArray:
    """The centre of the crop upscaled 2×: [S, S] → [S, S], half the field of view.

    The paper upscales inputs 2× at test time, which its fully convolutional networks take as larger pictures.
    Ours have a fixed input, so they see the central [S, S] of the 2S × 2S picture: the joint at twice the
    size, its outer margins cut away. Ours, not the paper's; not comparable with rows scored without it.
    """
    import cv2

    size = pixels.shape[0]
    large = cv2.resize(pixels, (UPSCALE * size, UPSCALE * size), interpolation=cv2.INTER_CUBIC)
    start = (UPSCALE - 1) * size // 2
    return np.clip(large[start : start + size, start : start + size], 0.0, 1.0)
