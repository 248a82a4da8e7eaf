"""A picture put upright with square pixels, and the way back to its pixels as stored.

Upright is how a frontal radiograph is looked at: head up, the participant's left at the image's right. A file
may be stored mirrored, turned or with pixels that are no squares, and say so: DICOM by PatientOrientation
(PS3.3 C.7.6.1.1.1) and PixelAspectRatio (C.7.6.3.1.7), pictures by the orientation tag of TIFF and EXIF.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from kneerisk.records import FloatArray

Affine = npt.NDArray[np.floating[Any]]
"""[2, 3]: pixel (x, y, 1) → pixel (x, y)."""

UPRIGHT: Final = 1
ORIENTATIONS: Final = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""Orientation by the numbers of TIFF 6.0 and EXIF → how the stored picture becomes upright: its columns are
reversed (second), its rows are (third), and then rows and columns change places (first)."""

_PATIENT: Final = {
    ("L", "F"): 1,
    ("R", "F"): 2,
    ("R", "H"): 3,
    ("L", "H"): 4,
    ("F", "L"): 5,
    ("F", "R"): 6,
    ("H", "R"): 7,
    ("H", "L"): 8,
}
_SQUARE: Final = 0.01
"""Pixels whose sides differ by less are left as they are."""
MAX_ASPECT: Final = 2.5
"""Pixels longer than this are no radiograph's: what says so is wrong."""


def orientation_of(row: str, column: str) -> int | None:
    """Orientation by the two values of PatientOrientation; ``None`` where they are no frontal picture's.

    Args:
        row: where a row leads, from its first pixel on: of ``L R H F A P``, the foremost direction first.
        column: where a column leads.
    """
    return _PATIENT.get((row[:1], column[:1]))


def put_upright(pixels: FloatArray, orientation: int, aspect: float) -> tuple[FloatArray, FloatArray | None]:
    """Turn a picture upright and stretch it along the coarser side of its pixels, until they are square.

    Args:
        pixels: float32 [H, W] as stored.
        orientation: one of :data:`ORIENTATIONS`.
        aspect: a stored pixel's height over its width.

    Returns:
        float32 [H', W'], and the [2, 3] affine from its pixels (x, y, 1) to those stored; ``None`` instead of
        the affine where nothing changed.
    """
    transposed, reverse_x, reverse_y = ORIENTATIONS[orientation]
    square = abs(aspect - 1) < _SQUARE
    if orientation == UPRIGHT and square:
        return pixels, None
    height, width = pixels.shape
    to_source = np.array(
        [
            [-1.0 if reverse_x else 1.0, 0, width - 1.0 if reverse_x else 0],
            [0, -1.0 if reverse_y else 1.0, height - 1.0 if reverse_y else 0],
        ]
    )
    pixels = pixels[:: -1 if reverse_y else 1, :: -1 if reverse_x else 1]
    if transposed:
        pixels, to_source = pixels.T, to_source[:, [1, 0, 2]]
    pixels = np.ascontiguousarray(pixels)
    if not square:
        pixels, stretch = _stretched(pixels, 1 / aspect if transposed else aspect)
        to_source = then(to_source, stretch)
    return pixels, to_source.astype(np.float32)


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


def _stretched(pixels: FloatArray, aspect: float) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    import cv2

    height, width = pixels.shape
    size = (width, round(height * aspect)) if aspect > 1 else (round(width / aspect), height)
    across, down = width / size[0], height / size[1]
    stretch = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5]])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), np.float32), stretch
