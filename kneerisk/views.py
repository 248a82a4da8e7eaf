"""Several looks at one crop: the grade now is read at more than one zoom, and the posteriors are averaged.

Ours, not the paper's.  How closely a crop is framed is partly chance; a mean over several frames depends less
on it, and agrees with readers more often (MODEL_CARD has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kneerisk.exposure import equalise
from kneerisk.records import FloatArray

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
