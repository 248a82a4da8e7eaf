"""Affine maps between the pixels of a picture and of what was made of it, and what they do to spacing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.floating[Any]]
"""[2, 3]: pixel (x, y, 1) → pixel (x, y)."""


def then(outer: Affine, inner: Affine) -> npt.NDArray[np.float64]:
    """The [2, 3] affine that goes through ``inner`` first and through ``outer`` next."""
    first, second = inner.astype(np.float64), outer.astype(np.float64)
    moved = second[:, :2] @ first
    moved[:, 2] += second[:, 2]
    return moved


def spacing_before(affine: Affine, spacing: tuple[float, float]) -> tuple[float, float]:
    """Row and column spacing of the pixels that an affine leads to → of those that it leads from.

    Args:
        affine: its translation, if any, changes nothing.
        spacing: (down, across), mm per pixel.
    """
    steps = affine[:, :2].astype(np.float64) * np.array([[spacing[1]], [spacing[0]]])
    across, down = np.hypot(steps[0], steps[1]).tolist()
    return down, across


def spacing_after(affine: Affine, spacing: tuple[float, float]) -> tuple[float, float]:
    """The way back of :func:`spacing_before`."""
    return spacing_before(np.linalg.inv(affine[:, :2].astype(np.float64)), spacing)
