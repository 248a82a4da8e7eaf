"""Metal in a knee's crop: flat, as bright as the film gets, and ending in a step, as no bone does.

Three witnesses. An outline: places where the grey falls off steeply from something bright and flat; of bone
the cortex is bright and steep, but not flat behind. The edge of the largest flat, brightest region as a
whole. And the share of what is brightest that such an outline bounds: metal ends in a step nearly all the way
round, bone whose grey is clipped only here and there.

White margins of collimated films are left out first: they end in a step, too.

Cuts were chosen on Chen's train crops, on composites of them and on metal drawn on them; among those crops
the outline found 18 knees with real screws, plates, staples or nails. Of 737 native knees on composites, a
fifth of them overexposed, one is taken for a replaced one and 5 % are flagged; of 600 with drawn white
margins, none and 0.5 %. Of drawn total, partial and stemmed replacements 100, 96 and 98 % are refused, with
such margins 92, 82 and 89 % (``benchmarks/accuracy/localiser.py`` measures it on val).
The localiser's own map of implants is not read: drawn shapes taught it, and real metal never raised it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.radiograph.locate.crop import JOINT_IN_CROP
from kneerisk.records import FloatArray

METAL_OUTLINE = 0.45
"""Length of metal's outline, in sides of the crop, from which a knee is flagged."""
JOINT_OUTLINE = 0.25
"""Length, above the joint and below it alike, from which the joint is a replaced one ..."""
BOUNDED, BOUNDED_IF_CLIPPED = 1 / 3, 0.43
"""... if such an outline bounds this share of what is brightest there; the latter where much is clipped."""
METAL_EDGE = 0.25
"""Fall of grey at the edge of the brightest region from which less does ..."""
EDGE_ASTRIDE = 0.1
"""... namely an outline of this length above the joint and below it, bounding as much."""

_BRIGHTEST = 0.998
_FLAT = 0.06
"""Metal lies within this share of the crop's grey range below its brightest pixels."""
_LEAST_AREA = 0.02
"""Share of the crop's area that a joint's metal covers at the least; screws and lead letters cover less."""
_STEEP, _FALL, _BRIGHT, _EVEN = 0.03, 0.2, 0.92, 0.025
"""Of metal's outline, as shares of the grey range: slope a pixel, fall over twice the reach, and the grey
inside and its standard deviation."""
_SHARP, _HALF_STEP = 0.6, 1.5
"""So much of the fall lies within so many pixels of the outline: clipped bone falls off slowly beyond."""
_REACH = 4.0
"""Pixels from the outline to where inside and outside are looked at."""
_BORDER = 4
_AT_TOP, _CLIPPED = 0.005, 0.08
"""Where a larger share of the crop lies this near its brightest pixel, it is clipped, and bone may be: the
outline counts half towards the flag, and the edge not at all."""
_ABOVE, _BELOW = 0.29, 0.31
"""How far from the joint a replacement's outline is looked for, as shares of the crop's side."""
_MARGIN_WIDTH = 0.35
"""Least width of a white margin, in sides of the crop; a stem, a nail or a plate is narrower."""
_MARGIN_REACH = 7
"""Pixels from a white margin to where its own edge ends."""
_LEAST_BOUNDARY = 20
"""Pixels: a shorter boundary of what is brightest tells nothing, and counts as this long."""


@dataclass(frozen=True, slots=True)
class Metal:
    """What of a crop looks like metal."""

    outline: float
    """Length of metal's outline, in sides of the crop; of a clipped film, half of it."""
    astride: float
    """The shorter of its lengths above the joint and below it, near the joint, in sides of the crop."""
    bounded: float
    """Its length near the joint, as a share of the boundary there of what is brightest."""
    edge: float
    """Mean fall at the edge of the largest flat, brightest region, as a share of the grey range."""
    clipped: bool
    """Whether much of the crop is as bright as its brightest pixel."""

    @property
    def replaced(self) -> bool:
        """Whether the joint looks replaced: metal on either side of it."""
        least = EDGE_ASTRIDE if self.edge >= METAL_EDGE else JOINT_OUTLINE
        return self.astride >= least and self.bounded >= (BOUNDED_IF_CLIPPED if self.clipped else BOUNDED)

    @property
    def seen(self) -> bool:
        """Whether there is metal at all, such as screws, a plate or a nail."""
        return self.outline >= METAL_OUTLINE or self.replaced


def metal_of(pixels: FloatArray) -> Metal:
    """Look for metal in a knee's crop, float32 [S, S], bone bright, not equalised."""
    smooth = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 1.0), np.float32)
    low, high = (float(value) for value in np.quantile(smooth, (0.02, _BRIGHTEST)))
    span = high - low
    if span <= 0:
        return Metal(0.0, 0.0, 0.0, 0.0, clipped=False)
    scaled, smooth = ((np.asarray(array, np.float32) - low) / span for array in (pixels, smooth))
    bright = np.asarray(smooth >= 1 - _FLAT)
    margins = _white_margins(bright)
    reach = np.ones((2 * _MARGIN_REACH + 1,) * 2, np.uint8)
    margin = np.asarray(cv2.dilate(margins.astype(np.uint8), reach) > 0)
    outline = _outline(np.asarray(scaled, np.float32), np.asarray(smooth, np.float32)) & ~margin
    side = len(pixels)
    clipped = float(np.mean(pixels >= pixels.max() - _AT_TOP * span)) > _CLIPPED
    joint = round(JOINT_IN_CROP[1] * side)
    first, last = joint - round(_ABOVE * side), joint + round(_BELOW * side)
    above, below = int(outline[first:joint].sum()), int(outline[joint:last].sum())
    boundary = int((_boundary(bright) & ~margin)[first:last].sum())
    return Metal(
        outline=float(outline.sum()) / (side * (2 if clipped else 1)),
        astride=min(above, below) / side,
        bounded=(above + below) / max(boundary, _LEAST_BOUNDARY),
        edge=0.0 if clipped else _edge(np.asarray(smooth, np.float32), bright & ~margins),
        clipped=clipped,
    )


def _white_margins(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The bands along the crop's sides that are as bright as it gets and fill a corner: bool [S, S].

    Collimated films are white around the picture where they are not black, and a margin ends in a step as
    metal does.  A stem that reaches a margin is narrower than what counts as its depth.

    Args:
        bright: where the crop is as bright as it gets, bool [S, S].
    """
    side = len(bright)
    away = np.arange(side)[:, None]
    wide = np.ones((1, round(_MARGIN_WIDTH * side)), np.uint8)
    margins = np.zeros_like(bright)
    for turns in range(4):
        turned = np.rot90(bright, turns)
        deep = np.where(turned.all(axis=0), side, turned.argmin(axis=0)).astype(np.float32)
        deep = np.asarray(cv2.morphologyEx(deep[None], cv2.MORPH_OPEN, wide), np.float32)[0]
        from_corner = np.minimum.accumulate(deep > 0) | np.minimum.accumulate(deep[::-1] > 0)[::-1]
        margins |= np.rot90((away < deep) & from_corner, -turns)
    return margins


def _outline(grey: FloatArray, smooth: FloatArray) -> npt.NDArray[np.bool_]:
    """Where a steep fall of grey bounds something bright and even: bool [S, S], a pixel wide.

    Args:
        grey: the crop, its range from 0 to 1.
        smooth: the same, blurred.
    """
    across = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3), np.float32) / 8
    down = np.asarray(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3), np.float32) / 8
    slope = np.hypot(across, down)
    mean = np.asarray(cv2.blur(grey, (5, 5)), np.float32)
    variance = np.asarray(cv2.blur(grey * grey, (5, 5)), np.float32) - mean * mean
    spread = np.sqrt(np.maximum(variance, 0))
    # Most of a crop is no edge of something bright: the rest is looked at along its slope.
    reach = np.ones((2 * round(_REACH) + 3,) * 2, np.uint8)
    likely = (slope > _STEEP) & (np.asarray(cv2.dilate(mean, reach), np.float32) > _BRIGHT)
    likely[:_BORDER] = likely[-_BORDER:] = likely[:, :_BORDER] = likely[:, -_BORDER:] = False
    rows, columns = np.nonzero(likely)
    if not len(rows):
        return likely
    x_step, y_step = across[rows, columns] / slope[rows, columns], down[rows, columns] / slope[rows, columns]

    def uphill(array: FloatArray, distance: float) -> FloatArray:
        x, y = (
            at.astype(np.float32)[:, None] for at in (columns + distance * x_step, rows + distance * y_step)
        )
        moved = cv2.remap(array, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(moved, np.float32)[:, 0]

    here = slope[rows, columns]
    inside, outside = uphill(mean, _REACH), uphill(mean, -_REACH)
    found = (here >= uphill(slope, 1)) & (here >= uphill(slope, -1))
    near = uphill(smooth, _HALF_STEP) - uphill(smooth, -_HALF_STEP)
    found &= near > _SHARP * (inside - outside)
    found &= (inside > _BRIGHT) & (inside - outside > _FALL) & (uphill(spread, _REACH) < _EVEN)
    likely[rows, columns] = found
    return likely


def _boundary(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The outermost pixels of a region without its specks, away from the crop's border: bool [S, S]."""
    square = np.ones((3, 3), np.uint8)
    region = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, square)
    rim = np.asarray(region > cv2.erode(region, square))
    rim[:_BORDER] = rim[-_BORDER:] = rim[:, :_BORDER] = rim[:, -_BORDER:] = False
    return rim


def _edge(smooth: FloatArray, bright: npt.NDArray[np.bool_]) -> float:
    """Mean fall from the brightest to a ring 5 to 6 px outside the largest flat, brightest region.

    0 where no such region is large enough.

    Args:
        smooth: the blurred crop, its range from 0 to 1.
        bright: where it is as bright as it gets.
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    if count < 2:
        return 0.0
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    region = np.asarray(labels == largest, np.uint8)
    if region.mean() < _LEAST_AREA:
        return 0.0
    near, far = (cv2.dilate(region, np.ones((side, side), np.uint8)) for side in (9, 13))
    ring = np.asarray(far, np.uint8) > np.asarray(near, np.uint8)
    return float((1 - smooth[ring]).mean()) if ring.any() else 0.0
