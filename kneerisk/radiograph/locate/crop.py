"""Geometry between a radiograph and what the networks see of it: the letterboxed whole, a knee's crop.

The framing is that of Chen's crops (doi 10.17632/56rmx5bjcr.1), which all networks were trained on.
Measured on the 526 of them that carry KNEEL's landmarks: the mean of the 16 points lies at (110.0, 125.7)
of 224 px in the right-knee frame (standard deviation 3.1, 6.3); the points span 0.824 of its width (0.036),
79.9 mm (7.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from kneerisk.method.exposure import equalise
from kneerisk.radiograph.upright import spacing_after, then
from kneerisk.records import FloatArray, KneeCrop, Radiograph, Side

CROP_SIZE = 224
"""Pixels a side of a knee's crop."""
FIELD_MM = 96.0
"""Millimetres a side of a knee's crop."""
JOINT_IN_CROP = (110.0 / 223, 125.7 / 223)
"""Where the joint's middle (the landmarks' mean) lies in a crop, as a share of its side, in the right-knee
frame."""
WIDTH_IN_CROP = 0.824
"""The joint's width (from the outermost to the innermost landmark) as a share of a crop's."""
JOINT_WIDTH_MM = 79.9
"""The joint's mean width: turns a width in pixels into a spacing where the header names none."""

_BLANK_RANGE = 0.02
"""A row or column that spans less of the radiograph's grey range than this is blank."""
_LEAST_CONTENT = 0.2


def letterbox(pixels: FloatArray, size: int) -> tuple[FloatArray, FloatArray]:
    """The radiograph as the localiser sees it: without blank margins, shrunk to fit, equalised, padded.

    Margins of one grey (collimation, screen captures) would take a share of the equalised grey scale.

    Args:
        pixels: float32 [H, W], bone bright.
        size: pixels a side of the square.

    Returns:
        float32 [size, size] in 0..1, and the [2, 3] affine from its pixels (x, y, 1) to the radiograph's.
    """
    rows, columns = _content(pixels)
    pixels = pixels[rows, columns]
    height, width = pixels.shape
    scale = size / max(height, width)
    # Even sides: the padding is then the same at either border, so that mirroring commutes with this.
    inner_height, inner_width = (max(2, 2 * round(side * scale / 2)) for side in (height, width))
    shrunk = _resize(pixels, inner_width, inner_height)
    square = np.zeros((size, size), np.float32)
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    square[top : top + inner_height, left : left + inner_width] = equalise(shrunk)
    across, down = width / inner_width, height / inner_height
    to_source = np.array(
        [
            [across, 0, (0.5 - left) * across - 0.5 + columns.start],
            [0, down, (0.5 - top) * down - 0.5 + rows.start],
        ],
        np.float32,
    )
    return square, to_source


def _content(pixels: FloatArray) -> tuple[slice, slice]:
    """Rows and columns without the margins of one grey; all of them where next to nothing would be left."""
    step = max(1, min(pixels.shape) // 512)
    sparse = pixels[::step, ::step]
    least = _BLANK_RANGE * float(np.ptp(sparse))
    kept = []
    for axis, length in ((1, pixels.shape[0]), (0, pixels.shape[1])):
        varied = np.flatnonzero(np.ptp(sparse, axis=axis) > least)
        first, last = (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, length)
        kept.append(slice(first * step, min(length, last * step)))
    if any(part.stop - part.start < _LEAST_CONTENT * n for part, n in zip(kept, pixels.shape, strict=True)):
        return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    return kept[0], kept[1]


@dataclass(frozen=True, slots=True)
class Cut:
    """A square crop, where it came from, and how much of it lay outside the radiograph."""

    pixels: FloatArray
    """[CROP_SIZE, CROP_SIZE] in the right-knee frame."""
    to_source: FloatArray
    """[2, 3]: crop pixel (x, y, 1) → pixel (x, y) of the radiograph."""
    outside: float
    """Share of the crop's area beyond the radiograph's border, there filled with its edge."""


def knee_of(radiograph: Radiograph, side: Side, cut: Cut, qc_flags: tuple[str, ...]) -> KneeCrop:
    """The knee of ``side`` as it was cut out of a radiograph, with all that is known of that."""
    to_source, spacing = cut.to_source, radiograph.spacing_mm
    if radiograph.to_source is not None:
        to_source = then(radiograph.to_source, to_source).astype(np.float32)
        spacing = None if spacing is None else spacing_after(radiograph.to_source, spacing)
    return KneeCrop(
        ref=radiograph.ref,
        side=side,
        pixels=cut.pixels,
        to_source=to_source,
        input_sha256=radiograph.input_sha256,
        spacing_mm=spacing,
        spacing_source=radiograph.spacing_source,
        sop_instance_uid=radiograph.sop_instance_uid,
        participant_id=radiograph.participant_id,
        qc_flags=qc_flags,
    )


def cut_knee(
    pixels: FloatArray, joint: tuple[float, float], field: tuple[float, float], *, mirror: bool
) -> Cut:
    """Cut a knee out of its radiograph, framed as Chen's crops are.

    Args:
        pixels: float32 [H, W].
        joint: (x, y) of the joint's middle, px of the radiograph.
        field: (width, height) of the crop, px of the radiograph.
        mirror: whether the knee is a left one, to be turned into the right-knee frame.
    """
    wide, high = max(1, round(field[0])), max(1, round(field[1]))
    across = 1 - JOINT_IN_CROP[0] if mirror else JOINT_IN_CROP[0]
    left = round(joint[0] - across * (wide - 1))
    top = round(joint[1] - JOINT_IN_CROP[1] * (high - 1))
    inside, outside, margins = _inside(pixels, left, top, wide, high)
    return _square(_filled(inside, margins), (left, top), mirror=mirror, outside=outside)


def window(
    pixels: FloatArray, middle: tuple[float, float], side: float, most: int
) -> tuple[FloatArray, float]:
    """A square around a place on a radiograph; its border's pixels fill what lies beyond.

    Args:
        pixels: float32 [H, W].
        middle: (x, y), px.
        side: of the square, px.
        most: pixels a side of what comes back; a larger square is shrunk to that.

    Returns:
        float32 [S, S], and the radiograph's pixels a pixel of it.
    """
    wanted = max(2, round(side))
    left, top = (round(at - (wanted - 1) / 2) for at in middle)
    inside, _, margins = _inside(pixels, left, top, wanted, wanted)
    if wanted > most:  # shrunk before it is filled: a knee as large as its film has a much larger window
        shrink = most / wanted
        height, width = (max(1, round(n * shrink)) for n in inside.shape)
        before, left_of = round(margins[0] * shrink), round(margins[2] * shrink)
        inside = _resize(inside, min(width, most), min(height, most))
        margins = (
            *(before, max(0, most - before - inside.shape[0])),
            *(left_of, max(0, most - left_of - inside.shape[1])),
        )
        inside = _filled(inside, margins)[:most, :most]
        return inside, wanted / most
    return _filled(inside, margins), 1.0


def whole_as_knee(pixels: FloatArray, *, mirror: bool) -> Cut:
    """An image that is already one knee's crop, float32 [H, W], squeezed to the networks' size as it is."""
    return _square(pixels, (0, 0), mirror=mirror, outside=0.0)


_Margins = tuple[int, int, int, int]
"""Rows above and below, columns at the left and the right."""


def _inside(
    pixels: FloatArray, left: int, top: int, wide: int, high: int
) -> tuple[FloatArray, float, _Margins]:
    """A rectangle's part within the radiograph, the share of it that lies beyond, and what is missing."""
    height, width = pixels.shape
    x0, x1 = max(0, left), min(width, left + wide)
    y0, y1 = max(0, top), min(height, top + high)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"{wide} x {high} px at ({left}, {top}) lie outside the radiograph of {width} x {height} px"
        )
    margins = (y0 - top, top + high - y1, x0 - left, left + wide - x1)
    return pixels[y0:y1, x0:x1], 1 - (x1 - x0) * (y1 - y0) / (wide * high), margins


def _filled(inside: FloatArray, margins: _Margins) -> FloatArray:
    """With margins of its border's pixels."""
    if not any(margins):
        return inside
    return np.asarray(cv2.copyMakeBorder(inside, *margins, borderType=cv2.BORDER_REPLICATE), np.float32)


def _square(region: FloatArray, corner: tuple[int, int], *, mirror: bool, outside: float) -> Cut:
    height, width = region.shape
    square = _resize(region, CROP_SIZE, CROP_SIZE)
    across, down = width / CROP_SIZE, height / CROP_SIZE
    to_source = np.array(
        [[across, 0, corner[0] + across / 2 - 0.5], [0, down, corner[1] + down / 2 - 0.5]], np.float64
    )
    if mirror:
        square = np.ascontiguousarray(square[:, ::-1])
        to_source[0] = [-across, 0, to_source[0, 2] + across * (CROP_SIZE - 1)]
    return Cut(square, to_source.astype(np.float32), outside)


def _resize(pixels: FloatArray, width: int, height: int) -> FloatArray:
    """Area-averaged (free of aliases) where it shrinks, bilinear where it grows; else the array itself."""
    if pixels.shape == (height, width):
        return pixels
    shrinks = width <= pixels.shape[1] and height <= pixels.shape[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.float32)
