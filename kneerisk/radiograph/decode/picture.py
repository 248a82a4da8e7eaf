"""What a file's decoder hands to `read`: stored pixels, which way is up, and what the header said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kneerisk.radiograph.decode.greyscale import Polarity
from kneerisk.radiograph.decode.headers import Header
from kneerisk.radiograph.upright import UPRIGHT


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded image: stored values [H, W], not yet a gray scale."""

    stored: npt.NDArray[Any]
    polarity: Polarity
    header: Header
    qc_flags: tuple[str, ...] = ()
    orientation: int = UPRIGHT
    """How it is stored, one of :data:`kneerisk.radiograph.upright.ORIENTATIONS`."""
    aspect: float = 1.0
    """A stored pixel's height over its width."""


COLOURED = (
    "the picture has colours that a radiograph has not: a photograph, a rendering or a coloured overlay; "
    "export the radiograph itself"
)
"""Why :func:`is_coloured` pictures are refused."""
_SHADES = 64
_OFF_SHADE = 0.12
"""Most that a tinted film's colours lie off those of its shade, as a share of the range: JPEG smears them."""
_MOST_COLOURED = 0.02
"""Share of the pixels that may be coloured all the same: marks and letters."""


def is_coloured(pixels: npt.NDArray[Any]) -> bool:
    """Whether colours say more than their brightness does, as in a photograph, a rendering or a heat map.

    Grey stored as RGB does not, nor does a tint, as of a scanned film: there, one brightness has one colour.

    Args:
        pixels: [H, W, 3 or 4]; a fourth channel is not looked at.
    """
    step = max(1, min(pixels.shape[:2]) // 256)
    colour = pixels[::step, ::step, :3].reshape(-1, 3).astype(np.float32)
    span = float(np.ptp(colour))
    if span <= 0:
        return False
    brightness = colour.mean(axis=1)
    shade = np.minimum((brightness - brightness.min()) / span * _SHADES, _SHADES - 1).astype(np.intp)
    usual = np.zeros((_SHADES, 3), np.float32)
    for value in np.unique(shade):
        usual[value] = np.median(colour[shade == value], axis=0)
    off = np.abs((colour - brightness[:, None]) - (usual - usual.mean(axis=1, keepdims=True))[shade]).max(
        axis=1
    )
    return bool(np.mean(off > _OFF_SHADE * span) > _MOST_COLOURED)


def luminance(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gray values [H, W] of a colour image [H, W, 3 or 4], by ITU-R BT.601; alpha is dropped."""
    import cv2

    colour = np.ascontiguousarray(pixels[..., :3])
    if colour.dtype not in (np.uint8, np.uint16, np.float32):
        colour = colour.astype(np.float32)
    grey: npt.NDArray[Any] = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    return grey
