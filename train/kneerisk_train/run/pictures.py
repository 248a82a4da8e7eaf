"""Pictures to look at while training: rows of crops, with landmarks or beside what was made of them."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Crops = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
_MARK = (80, 200, 255)


def side_by_side(*rows: Crops) -> Picture:
    """Rows of crops [N, S, S] in 0..1, one above the other, uint8."""
    lines = [np.concatenate(list(row), axis=1) for row in rows]
    return np.asarray((np.concatenate(lines).clip(0, 1) * 255).round(), np.uint8)


def marked_crops(crops: Crops, landmarks: npt.NDArray[np.float32]) -> Picture:
    """Crops [N, S, S] in 0..1 in a row, each with its 16 landmarks [N, 16, 2], uint8 [S, N * S, 3]."""
    shown = []
    for crop, points in zip(crops, landmarks, strict=True):
        picture = cv2.cvtColor(np.asarray((crop.clip(0, 1) * 255).round(), np.uint8), cv2.COLOR_GRAY2BGR)
        for x, y in points:
            cv2.circle(picture, (round(float(x)), round(float(y))), 2, _MARK, -1, cv2.LINE_AA)
        shown.append(picture)
    return np.asarray(np.concatenate(shown, axis=1), np.uint8)
