"""From stored values to one gray scale: float32 in 0..1, bone bright, with nothing cut off.

The window a header proposes is for a viewer's eye, differs by vendor and hides what lies outside it. So no
window is applied: the modality transform and the VOI LUT settle only which way is up (a falling one turns
the scale), and the image's own distribution sets the range. Values between the 0.1st and the 99.9th
percentile fill 0.02..0.98 and the tails run on linearly to 0 and 1: rising throughout, so sclerotic bone
beyond any window keeps its detail, and a crop's rank equalisation sees the same ranks whatever window was
written.

A radiograph has at most 65,536 stored values, so the whole chain is worked out on a table of values and
applied to the pixels in one look-up. The table's greys are steps of 1/65,536, so that turning the scale is
exact and a negative has the positive's greys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.radiograph import flags
from kneerisk.records import GREY_STEPS, FloatArray

if TYPE_CHECKING:
    from pydicom import Dataset

_LEVELS = 1 << 16
_TAIL = 0.001
_MARGIN = 0.02
_MOSTLY_PADDING = 0.95
_ROWS = 64
"""Of the picture, that are looked up at once."""

IntArray = npt.NDArray[np.integer[Any]]


class BlankImageError(Exception):
    """All but a thousandth of the pixels at each end have one and the same value."""


@dataclass(frozen=True, slots=True)
class Polarity:
    """Which stored values are shown bright, and which pixels are no image."""

    inverted: bool = False
    """Whether low stored values are shown bright (MONOCHROME1 and the like)."""
    padding: tuple[int, int] | None = None
    """Stored values, first and last, that mark pixels without image."""


def to_grey(pixels: npt.NDArray[Any], polarity: Polarity) -> FloatArray:
    """Map stored values [H, W] of any number type to float32 [H, W] in 0..1, bright where shown bright.

    Padding and values that are no number become 0 (dark).

    Raises:
        BlankImageError: there is no picture in the pixels.
    """
    padding = polarity.padding
    levels, offset = _levels(pixels)
    counts = _histogram(levels)
    first, last = (0, -1) if padding is None else (padding[0] - offset, padding[1] - offset)
    first, last = max(first, 0), min(last, len(counts) - 1)
    if pixels.dtype.kind not in "iu" or counts[first : last + 1].sum() > _MOSTLY_PADDING * levels.size:
        first, last = 0, -1  # a padding value that covers all the picture is a mistake
    counts[first : last + 1] = 0
    table = _tone(counts)
    if polarity.inverted:
        table = 1.0 - table
    table[first : last + 1] = 0.0
    grey = _look_up(table.astype(np.float32), levels)
    if pixels.dtype.kind == "f":
        grey[~np.isfinite(pixels)] = 0.0
    return grey


def _look_up(table: FloatArray, levels: IntArray) -> FloatArray:
    """The table's value for each level; some rows at a time, for NumPy makes indices of eight bytes."""
    found = np.empty(levels.shape, np.float32)
    for first in range(0, len(levels), _ROWS):
        rows = slice(first, first + _ROWS)
        np.take(table, levels[rows], out=found[rows], mode="clip")  # which they never leave: unbuffered
    return found


def _levels(pixels: npt.NDArray[Any]) -> tuple[IntArray, int]:
    """Values as whole numbers from 0 to 65,535, and what was taken off them; others are fitted to that."""
    if pixels.dtype.kind == "b":
        pixels = pixels.astype(np.uint8)
    if pixels.dtype.kind in "iu":
        if pixels.dtype in (np.uint8, np.uint16):
            return pixels, 0
        smallest = int(pixels.min())
        if int(pixels.max()) - smallest < _LEVELS:
            return (pixels.astype(np.int64) - smallest).astype(np.uint16), smallest
        values = pixels.astype(np.float64)
    else:
        finite = np.isfinite(pixels)
        if not finite.any():
            raise BlankImageError
        values = np.where(finite, pixels, pixels[finite].min()).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    span = high - low
    if not 0 < span < np.inf:
        raise BlankImageError
    # Whole numbers stored as floats are those numbers: a detector's, with the steps that it had.
    scale = 1.0 if span < _LEVELS and np.array_equal(values, np.rint(values)) else (_LEVELS - 1) / span
    return np.rint((values - low) * scale).astype(np.uint16), 0


def _histogram(levels: IntArray) -> npt.NDArray[np.int64]:
    if levels.size < 1 << 24:  # OpenCV counts in float32: exact up to here, and five times quicker
        import cv2

        size = 1 << (8 * levels.dtype.itemsize)
        return cv2.calcHist([levels], [0], None, [size], [0, size]).reshape(-1).astype(np.int64)
    return np.bincount(levels.reshape(-1), minlength=256).astype(np.int64)


def _tone(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Rising table of gray by level, from how often each level occurs."""
    present = np.flatnonzero(counts)
    if len(present) < 2:
        raise BlankImageError
    lowest, highest = int(present[0]), int(present[-1])
    tail = _TAIL * counts.sum()
    low = int(np.searchsorted(np.cumsum(counts), tail))
    high = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), tail))
    if low >= high:
        raise BlankImageError
    knots = {lowest: 0.0, highest: 1.0, low: _MARGIN, high: 1.0 - _MARGIN}
    if low == lowest:
        knots[low] = 0.0
    if high == highest:
        knots[high] = 1.0
    levels = sorted(knots)
    greys = np.interp(np.arange(len(counts)), levels, [knots[level] for level in levels])
    return np.asarray(np.rint(greys * GREY_STEPS) / GREY_STEPS)


def polarity_of(ds: Dataset, pixels: npt.NDArray[Any]) -> tuple[Polarity, tuple[str, ...]]:
    """Which way is up, by the header: PhotometricInterpretation, rescale slope, modality and VOI LUTs.

    PresentationLUTShape says again what PhotometricInterpretation says (DICOM PS3.3, C.8.11.3): it turns
    nothing, and a contradiction is flagged.
    """
    found: list[str] = []
    space = str(ds.get("PhotometricInterpretation", "MONOCHROME2")).strip()
    inverted = space == "MONOCHROME1"
    shape = str(ds.get("PresentationLUTShape", "") or "").strip()
    if shape in ("IDENTITY", "INVERSE") and (shape == "INVERSE") != inverted and space.startswith("MONO"):
        found.append(flags.POLARITY_CONFLICT)
    low, high = (float(v) for v in np.percentile(pixels[::8, ::8], (1, 99)))
    modality = ds.get("ModalityLUTSequence")
    if _falls(modality, low, high) or _number(ds, "RescaleSlope", 1.0) < 0:
        inverted = not inverted
    # A VOI LUT's input is the modality transform's output (PS3.3, C.11.2).
    low, high = sorted(_rescaled(ds, modality, value) for value in (low, high))
    if _falls(ds.get("VOILUTSequence"), low, high):
        inverted = not inverted
        found.append(flags.VOI_LUT_INVERTS)
    return Polarity(inverted, _padding(ds)), tuple(found)


def _rescaled(ds: Dataset, modality: Any, value: float) -> float:
    """A stored value after the modality LUT, or else after the rescale slope and intercept."""
    table = _table(modality, value, value)
    if table is not None:
        first, values = table
        return float(values[_place(first, values, value)])
    return value * _number(ds, "RescaleSlope", 1.0) + _number(ds, "RescaleIntercept", 0.0)


def _falls(sequence: Any, low: float, high: float) -> bool:
    """Whether a look-up table's values fall over the part of it that the pixels use."""
    table = _table(sequence, low, high)
    if table is None:
        return False
    first, values = table
    start, end = (_place(first, values, value) for value in (low, high))
    return end > start and bool(values[end] < values[start])


def _place(first: int, values: npt.NDArray[np.float64], value: float) -> int:
    return int(np.clip(value - first, 0, len(values) - 1))


def _table(sequence: Any, low: float, high: float) -> tuple[int, npt.NDArray[np.float64]] | None:
    """First input and values of a look-up table; ``None`` where there is none that can be read.

    A first input is signed or not, and files often mix it up: it is the one whose table holds more of the
    inputs from ``low`` to ``high``.
    """
    try:
        item = sequence[0]
        first = int(item.LUTDescriptor[1])
        data = item.LUTData
        if isinstance(data, bytes):
            bits = int(item.LUTDescriptor[2])
            data = np.frombuffer(data, dtype=np.uint8 if bits == 8 and len(data) % 2 else np.uint16)
        values = np.asarray(data, dtype=np.float64)
    except (TypeError, IndexError, AttributeError, ValueError, KeyError):
        return None
    if not values.size:
        return None

    def held(start: int) -> float:
        return min(high, start + len(values) - 1) - max(low, start)

    return max((first, first - 0x10000 if first > 0x7FFF else first), key=held), values


def _padding(ds: Dataset) -> tuple[int, int] | None:
    try:
        value = int(ds.PixelPaddingValue)
        limit = int(ds.get("PixelPaddingRangeLimit", value))
    except (AttributeError, TypeError, ValueError):
        return None
    return min(value, limit), max(value, limit)


def _number(ds: Dataset, keyword: str, default: float) -> float:
    try:
        return float(ds.get(keyword, default))
    except (TypeError, ValueError):
        return default
