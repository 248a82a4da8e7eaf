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


def luminance(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gray values [H, W] of a colour image [H, W, 3 or 4], by ITU-R BT.601; alpha is dropped."""
    import cv2

    colour = np.ascontiguousarray(pixels[..., :3])
    if colour.dtype not in (np.uint8, np.uint16, np.float32):
        colour = colour.astype(np.float32)
    grey: npt.NDArray[Any] = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    return grey
