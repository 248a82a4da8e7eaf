"""From the localiser's maps to what may be the knees of a radiograph: peaks, refined between cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.records import FloatArray, Side

Maps = Mapping[str, npt.NDArray[np.float32]]
RunLocaliser = Callable[[Maps], Maps]
"""``radiograph`` [N, 1, S, S] → ``centres``, ``width``, ``inverted`` (``implant`` is not read) of
:class:`models.localiser`."""

LEAST_PEAK = 0.1
"""A peak of this height is worth a closer look."""
CLEAR_PEAK = 0.35
"""In a close-up, a peak of this height is a knee whose side can be read."""
MOST_PEAKS = 4
_APART = 0.6
"""Two knees lie at least this share of the wider one's width apart."""


@dataclass(frozen=True, slots=True)
class Found:
    """One knee, in pixels of the radiograph."""

    x: float
    y: float
    """The joint's middle."""
    width: float
    """Of the joint, px."""
    score: float
    """Height of its peak, 0..1."""
    p_right: float
    """How far it looks like a right knee (fibula at the image's left), 0..1."""

    @property
    def looks(self) -> Side:
        """The side that its anatomy suggests."""
        return "R" if self.p_right >= 0.5 else "L"

    @property
    def surety(self) -> float:
        """How sure that side is, 0.5..1."""
        return max(self.p_right, 1 - self.p_right)


def peaks_of(maps: Maps, to_source: FloatArray, size: int, least: float = LEAST_PEAK) -> list[Found]:
    """What may be knees, the likeliest first: at most four, the highest peaks.

    Args:
        maps: what the localiser gave for a batch of one.
        to_source: [2, 3] affine from the letterboxed pixels to the radiograph's, which may mirror them.
        size: S, pixels a side of the letterboxed radiograph.
        least: the least height of a peak.
    """
    centres = np.asarray(maps["centres"], np.float32)[0]
    either = _either(centres)
    widths = maps["width"][0, 0]
    stride = size / either.shape[0]
    summits = (either >= cv2.dilate(either, np.ones((3, 3), np.uint8))) & (either >= least)
    found: list[Found] = []
    for row, column in sorted(zip(*np.nonzero(summits), strict=True), key=lambda cell: -float(either[cell])):
        x, y = _between_cells(either, row, column)
        at = to_source @ np.array([(x + 0.5) * stride - 0.5, (y + 0.5) * stride - 0.5, 1.0], np.float32)
        width = float(widths[row, column]) * size * float(abs(to_source[0, 0]))
        if any(
            np.hypot(at[0] - other.x, at[1] - other.y) < _APART * max(width, other.width) for other in found
        ):
            continue
        around = centres[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].sum(axis=(1, 2))
        found.append(
            Found(
                x=float(at[0]),
                y=float(at[1]),
                width=width,
                score=float(either[row, column]),
                p_right=float(around[0] / max(float(around.sum()), 1e-6)),
            )
        )
    return found[:MOST_PEAKS]


def mean_of_mirrored(straight: Maps, mirrored: Maps) -> Maps:
    """Mean of the maps of a radiograph and of its mirror image, in which left and right trade places."""
    back = {name: maps[..., ::-1] if maps.ndim == 4 else maps for name, maps in mirrored.items()}
    back["centres"] = back["centres"][:, ::-1]
    return {name: np.asarray((maps + back[name]) / 2, np.float32) for name, maps in straight.items()}


def best_score(maps: Maps) -> float:
    """Height of the highest peak: how much like a knee the likeliest spot looks."""
    return float(_either(np.asarray(maps["centres"], np.float32)[0]).max())


def p_right(maps: Maps) -> float | None:
    """How far the likeliest knee looks like a right one, 0..1; None where there is no knee."""
    centres = np.asarray(maps["centres"], np.float32)[0]
    either = _either(centres)
    row, column = np.unravel_index(int(either.argmax()), either.shape)
    if either[row, column] < CLEAR_PEAK:
        return None
    right, left = centres[:, row, column]
    return float(right / (right + left))


def _either(centres: FloatArray) -> FloatArray:
    """A knee of either side: one that could be both is a knee all the same."""
    return np.asarray(np.minimum(centres.sum(axis=0), 1.0), np.float32)


def _between_cells(heat: FloatArray, row: int, column: int) -> tuple[float, float]:
    """(x, y) in cells of the summit of a parabola through the logarithms of a peak: exact for a Gaussian."""
    logs = np.log(np.maximum(heat, 1e-6))
    offsets = []
    for position, line in ((column, logs[row]), (row, logs[:, column])):
        if not 0 < position < len(line) - 1:
            offsets.append(float(position))
            continue
        before, here, after = (float(value) for value in line[position - 1 : position + 2])
        bend = before - 2 * here + after
        shift = 0.5 * (before - after) / bend if bend < -1e-6 else 0.0
        offsets.append(position + min(max(shift, -0.5), 0.5))
    return offsets[0], offsets[1]
