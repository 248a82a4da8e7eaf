"""A second look: what may be a knee is shown to the localiser again, from close by.

Seen small on a whole film, the end of many a bone looks like a knee.  From close by a knee still does, at
the same place and as wide; a lateral knee, a hand or a foot seldom does all three.  And a knee that was faint
among all that lies around it is clear.

Cuts were chosen on composites of Chen's train crops, simulated radiographs and simulated other views, no real
film among them: of 900 knees five are lost, of 74 spots beside a knee, on a panel with another view, none is
taken.  Simulated ankles and elbows pass in part.  ``benchmarks/accuracy/localiser.py`` measures it on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kneerisk.radiograph.locate.crop import letterbox, window
from kneerisk.radiograph.locate.peaks import Found, Maps, RunLocaliser, peaks_of
from kneerisk.records import FloatArray

WINDOWS: Final = (2.0, 2.8)
"""Sides of the windows around a peak, in joint widths."""
KNEE_SCORE = 0.4
"""Mean of the two close looks' scores from which a spot is a knee."""
_CLEAR = 2 * KNEE_SCORE
"""A first close look this sure decides alone: whatever the other one said, the mean would reach the score.
A radiograph that is one knee and no more is such a look already, and is not looked at again."""
_SAME_PLACE = 0.1
"""Most that a knee lies off from close by, in joint widths."""
_SAME_WIDTH: Final = (0.75, 1.35)
"""Its width from close by, as a share of that on the whole film."""
_ALL_KNEE = 1.5
"""A radiograph of no more joint widths is a close look itself: the windows add nothing but its filled border.
Without it 6 of 150 crops drawn from Chen's train knees are lost, with it 3."""
_MOST_SHARP = 4
"""A window of more pixels than so many times the network's is shrunk before it is filled."""
_LEAST = 0.02
_NEAR = 0.35
"""How far from a window's middle its peak is looked for, in joint widths."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What may be a knee, after its second look."""

    knee: Found
    """As the whole film showed it, but for its score: the mean of the close looks, or of a radiograph that is
    one itself the best it gave."""
    first_score: float
    """Its score on the whole film, 0..1."""
    p_right_close: float
    """How far it looks like a right knee from close by, 0..1."""
    accepted: bool


def look_again(run: RunLocaliser, size: int, pixels: FloatArray, peaks: Sequence[Found]) -> list[Judged]:
    """Show the network each peak from close by, in a window that the radiograph's border fills up.

    A window is turned into the right-knee frame first, so that a mirrored radiograph gives the same answers,
    sides swapped, without a second run.

    Args:
        run: the network.
        size: pixels a side of its input.
        pixels: the radiograph, float32 [H, W].
        peaks: places on it.
    """
    unsure = [peak for peak in peaks if not _decides_alone(peak, pixels)]
    close = iter(_looks(run, size, pixels, unsure, WINDOWS[0]))
    return [
        Judged(peak, peak.score, peak.p_right, accepted=True)
        if _decides_alone(peak, pixels)
        else _judge(run, size, pixels, peak, next(close))
        for peak in peaks
    ]


def _judge(run: RunLocaliser, size: int, pixels: FloatArray, peak: Found, close: Found) -> Judged:
    """A peak by what its first window shows and, where that leaves doubt, by a wider one.

    A radiograph that was a close look itself and showed a knee leaves none: it is a knee if the first window
    agrees, whatever the wider one would score.
    """
    agrees = (
        np.hypot(close.x - peak.x, close.y - peak.y) <= _SAME_PLACE * peak.width
        and _SAME_WIDTH[0] <= close.width / peak.width <= _SAME_WIDTH[1]
    )
    score, seen_close = close.score, _fills(peak, pixels)
    if score < _CLEAR and not (seen_close and peak.score >= KNEE_SCORE):
        (wider,) = _looks(run, size, pixels, [peak], WINDOWS[1])
        score = (close.score + wider.score) / 2
    if seen_close:
        score = max(score, peak.score)
    accepted = bool(agrees and score >= KNEE_SCORE)
    return Judged(replace(peak, score=score), peak.score, close.p_right, accepted)


def _fills(peak: Found, pixels: FloatArray) -> bool:
    return bool(max(pixels.shape) <= _ALL_KNEE * peak.width)


def _decides_alone(peak: Found, pixels: FloatArray) -> bool:
    """Whether the radiograph was a close look itself, and as sure as one that decides alone."""
    return _fills(peak, pixels) and peak.score >= _CLEAR


def _looks(
    run: RunLocaliser, size: int, pixels: FloatArray, peaks: Sequence[Found], widths: float
) -> list[Found]:
    """Each peak as it is seen in a window of so many joint widths; a score of 0 where nothing is near it."""
    if not peaks:
        return []
    squares, ways = [], []
    for peak in peaks:
        around, scale = window(pixels, (peak.x, peak.y), widths * peak.width, most=_MOST_SHARP * size)
        mirrored = peak.looks == "L"
        square, to_window = letterbox(around[:, ::-1] if mirrored else around, size)
        to_window[:, 2] -= (len(around) - 1) / 2
        to_window *= scale
        if mirrored:
            to_window[0] *= -1
        squares.append(square)
        ways.append(to_window)
    maps = run({"radiograph": np.stack(squares)[:, None]})
    return [
        _nearest({name: answer[i : i + 1] for name, answer in maps.items()}, way, size, peak)
        for i, (peak, way) in enumerate(zip(peaks, ways, strict=True))
    ]


def _nearest(maps: Maps, from_peak: FloatArray, size: int, peak: Found) -> Found:
    """What is seen near a peak, in pixels of the radiograph and as it lies there.

    Args:
        maps: what the network made of a window.
        from_peak: [2, 3] affine: the letterboxed window's pixels → steps from the peak, px of the radiograph.
        size: pixels a side of the letterboxed window.
        peak: as the whole film showed it.
    """
    for seen in peaks_of(maps, from_peak, size, least=_LEAST):
        if np.hypot(seen.x, seen.y) <= _NEAR * peak.width:
            p_right = seen.p_right if from_peak[0, 0] > 0 else 1 - seen.p_right
            return replace(seen, x=peak.x + seen.x, y=peak.y + seen.y, p_right=p_right)
    return replace(peak, score=0.0)
