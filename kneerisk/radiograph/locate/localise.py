"""Radiograph → the crops of its knees, each in the right-knee frame, or the reasons why there are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.locate.crop import (
    FIELD_MM,
    JOINT_WIDTH_MM,
    WIDTH_IN_CROP,
    Cut,
    cut_knee,
    knee_of,
    letterbox,
    whole_as_knee,
)
from kneerisk.radiograph.locate.looks import Judged, look_again
from kneerisk.radiograph.locate.metal import metal_of
from kneerisk.radiograph.locate.peaks import (
    CLEAR_PEAK,
    Found,
    Maps,
    RunLocaliser,
    best_score,
    mean_of_mirrored,
    p_right,
    peaks_of,
)
from kneerisk.radiograph.locate.physes import plates_open
from kneerisk.radiograph.locate.recognise import is_cropped_knee, side_from_name
from kneerisk.radiograph.locate.sides import Missing, Named, Stated, name_sides
from kneerisk.radiograph.settings import Invert
from kneerisk.records import FloatArray, KneeCrop, Radiograph, Refusal, refuse

INVERTED_SCORE = 0.5
_MOST_KNEES = 2
_FAINT_SCORE = 0.5
_DOUBTFUL_SCORE = 0.2
"""From here on, from close by, a spot that is not taken for a knee gets a row that says so."""
_FEW_PIXELS = 120
"""Across the joint: below it, a crop is enlarged by half or more."""
_SMALL_JOINT_MM = 60.0
"""Grown-up knees are wider: Chen's are 79.9 mm (standard deviation 7.5)."""
_PLAUSIBLE_WIDTH_MM: Final = (45.0, 130.0)
_CUT_SHARE = 0.08
"""Most of the joint's width that may lie beyond the radiograph's border."""
_NEAR_JOINT = 0.22
"""Least distance of the joint from the upper and lower border, as a share of its width."""
_NEAR_BORDER = 0.1
_LOW_CONTRAST = 0.06
_BLANK_SHARE = 0.25
_TURNS: Final = {1: "a quarter turn clockwise", 2: "upside down", 3: "a quarter turn anticlockwise"}


class KneeLocaliser:
    """Finds the knees of one radiograph at a time: a crop depends on its own radiograph alone."""

    def __init__(self, run: RunLocaliser, *, size: int = 256):
        """Take the localiser network.

        Args:
            run: the network: named arrays in, named arrays out (see :mod:`kneerisk.radiograph.locate.peaks`).
            size: pixels a side of its input.
        """
        self._run = run
        self._size = size

    def localise(
        self, radiograph: Radiograph, *, side: Stated = None, invert: Invert = "auto"
    ) -> list[KneeCrop | Refusal]:
        """Find, name and cut out the knees, from the image's left to its right.

        Args:
            radiograph: float32 [H, W] in 0..1, bone bright as far as the header tells.
            side: L, R or both; wins over the manifest's (``radiograph.ref.side``), as that over the header's.
            invert: ``yes`` reverses the grey scale (unless reading did), ``no`` never does, ``auto`` does so
                where it looks reversed.

        Returns:
            A crop or a refusal for each knee; one refusal where there is nothing to score.  Never empty.
        """
        pixels, maps, to_source, noted = self._upright_grey(radiograph, invert)
        judged = look_again(self._run, self._size, pixels, peaks_of(maps, to_source, self._size))
        found, doubtful = _knees(judged), _doubtful(judged)
        if not found:
            message = self._what_was_seen(pixels, maps, doubtful)
            return [refuse(radiograph, Reason.NO_KNEE_FOUND, message, qc_flags=noted)]
        if is_cropped_knee(radiograph, found):
            noted = (*noted, flags.CROPPED_INPUT)
        elif len(found) == 1:
            found = [self._closer(pixels, found[0])]
        asked = side or radiograph.ref.side
        named = name_sides(
            found, asked, radiograph.side, side_from_name(radiograph.ref.source_path), doubtful
        )
        return [
            refuse(radiograph, item.reason, item.message, side=item.side, qc_flags=noted)
            if isinstance(item, Missing)
            else _crop_or_refusal(radiograph, pixels, item, noted)
            for item in named
        ]

    def _see(self, pixels: FloatArray) -> tuple[Maps, FloatArray]:
        """The network's mean answer for a radiograph and its mirror image.

        A radiograph and its mirrored copy then get the same knees, with sides swapped.
        """
        square, to_source = letterbox(pixels, self._size)
        both = self._run({"radiograph": np.stack([square, square[:, ::-1]])[:, None]})
        straight, mirrored = ({name: maps[i : i + 1] for name, maps in both.items()} for i in (0, 1))
        return mean_of_mirrored(straight, mirrored), to_source

    def _closer(self, pixels: FloatArray, knee: Found) -> Found:
        """A lone knee with its side read again from two close-ups, where the fibula is seen best.

        The odds of the three looks are multiplied, tempered to those of one (their geometric mean).
        """
        shares = [knee.p_right]
        for field in (knee.width / WIDTH_IN_CROP, 1.25 * knee.width / WIDTH_IN_CROP):
            cut = cut_knee(pixels, (knee.x, knee.y), (field, field), mirror=False)
            if (share := p_right(self._see(cut.pixels)[0])) is not None:
                shares.append(share)
        return replace(knee, p_right=_mean_odds(shares))

    def _upright_grey(
        self, radiograph: Radiograph, invert: Invert
    ) -> tuple[FloatArray, Maps, FloatArray, tuple[str, ...]]:
        """The pixels bone bright, what the network makes of them, and the flags so far."""
        pixels, noted = radiograph.pixels, radiograph.qc_flags
        if invert == "yes" and flags.INVERTED_BY_OPTION not in noted:
            pixels, noted = 1 - pixels, (*noted, flags.INVERTED_BY_OPTION)
        maps, to_source = self._see(pixels)
        if invert == "auto" and (reversed_score := float(maps["inverted"][0])) >= INVERTED_SCORE:
            other, _ = self._see(1 - pixels)
            if float(other["inverted"][0]) < reversed_score:
                return 1 - pixels, other, to_source, (*noted, flags.INVERSION_DETECTED)
        return pixels, maps, to_source, noted

    def _what_was_seen(self, pixels: FloatArray, maps: Maps, doubtful: str | None) -> str:
        """Words for a radiograph without a knee; looks at it turned, as a person would."""
        message = (
            f"no frontal knee found: the likeliest spot scores {doubtful or f'{best_score(maps):.2f} of 1'}"
        )
        for turn, words in _TURNS.items():
            turned, to_turned = self._see(np.ascontiguousarray(np.rot90(pixels, turn)))
            clear = peaks_of(turned, to_turned, self._size, CLEAR_PEAK)
            if clear and best_score(turned) > 2 * best_score(maps):
                return f"{message}, but the image seems to lie {words}: turn it and score it again"
        return f"{message}; a lateral or patellar view, another part of the body, or no radiograph"


def _knees(judged: Sequence[Judged]) -> list[Found]:
    """From the image's left to its right, the two likeliest; of two, with their sides seen from close by."""
    taken = sorted((seen for seen in judged if seen.accepted), key=lambda seen: -seen.knee.score)
    taken = sorted(taken[:_MOST_KNEES], key=lambda seen: seen.knee.x)
    if len(taken) == 1:
        return [taken[0].knee]
    return [replace(seen.knee, p_right=_mean_odds([seen.knee.p_right, seen.p_right_close])) for seen in taken]


def _doubtful(judged: Sequence[Judged]) -> str | None:
    """Words for the likeliest spot that was not taken for a knee; None where none is worth a row."""
    spots = [
        seen
        for seen in judged
        if not seen.accepted and (seen.first_score >= CLEAR_PEAK or seen.knee.score >= _DOUBTFUL_SCORE)
    ]
    if not spots:
        return None
    spot = max(spots, key=lambda seen: (seen.knee.score, seen.first_score))
    return f"{spot.first_score:.2f} of 1 on the whole film and {spot.knee.score:.2f} from close by"


def _mean_odds(shares: Sequence[float]) -> float:
    """The share whose odds are the geometric mean of those of ``shares``."""
    return 1 / (1 + math.exp(-sum(map(_log_odds, shares)) / len(shares)))


def _crop_or_refusal(
    radiograph: Radiograph, pixels: FloatArray, named: Named, noted: tuple[str, ...]
) -> KneeCrop | Refusal:
    knee, mirror = named.knee, named.side == "L"
    noted = (*noted, *named.flags)
    if flags.CROPPED_INPUT in noted:
        cut = whole_as_knee(pixels, mirror=mirror)
    else:
        if (lost := _beyond_border(knee, pixels.shape)) is not None:
            return refuse(radiograph, Reason.KNEE_CUT_OFF, lost, side=named.side, qc_flags=noted)
        if radiograph.spacing_mm is not None and not _plausible(knee, radiograph.spacing_mm[1]):
            radiograph = replace(radiograph, spacing_mm=None, spacing_source="unknown")
            noted = (*noted, flags.SPACING_IMPLAUSIBLE)
        if radiograph.spacing_mm is not None and knee.width * radiograph.spacing_mm[1] < _SMALL_JOINT_MM:
            noted = (*noted, flags.SMALL_JOINT)
        if radiograph.spacing_mm is None:
            noted = (*noted, flags.SCALE_ESTIMATED)
        cut = cut_knee(pixels, (knee.x, knee.y), _field(knee, radiograph.spacing_mm), mirror=mirror)
    metal = metal_of(cut.pixels)
    if metal.replaced:
        message = (
            "flat, bright shapes with sharp edges lie above the joint and below it: metal; "
            "a replaced knee has no grade to read"
        )
        return refuse(radiograph, Reason.IMPLANT, message, side=named.side, qc_flags=noted)
    if metal.seen:
        noted = (*noted, flags.METAL_SEEN)
    if plates_open(cut.pixels):
        noted = (*noted, flags.PLATES_OPEN)
    return knee_of(radiograph, named.side, cut, (*noted, *_quality(knee, cut)))


def _log_odds(share: float) -> float:
    share = min(max(share, 1e-3), 1 - 1e-3)
    return math.log(share / (1 - share))


def _field(knee: Found, spacing: tuple[float, float] | None) -> tuple[float, float]:
    """(width, height) of the crop in px: fixed millimetres, or in proportion to the joint without them."""
    if spacing is None:
        return knee.width / WIDTH_IN_CROP, knee.width / WIDTH_IN_CROP
    return FIELD_MM / spacing[1], FIELD_MM / spacing[0]


def _plausible(knee: Found, column_spacing: float) -> bool:
    return _PLAUSIBLE_WIDTH_MM[0] <= knee.width * column_spacing <= _PLAUSIBLE_WIDTH_MM[1]


def _beyond_border(knee: Found, shape: tuple[int, ...]) -> str | None:
    """Words for how much of the joint the border cuts off; None where it is all there."""
    height, width = shape
    past_side = max(0.0, knee.width / 2 - min(knee.x, width - 1 - knee.x)) / knee.width
    if past_side > _CUT_SHARE:
        return (
            f"the border cuts off {past_side:.0%} of the joint (estimated width {knee.width:.0f} px, "
            f"{JOINT_WIDTH_MM:.0f} mm on average)"
        )
    to_edge = min(knee.y, height - 1 - knee.y) / knee.width
    if to_edge < _NEAR_JOINT:
        return f"the joint lies {to_edge:.0%} of its width from the upper or lower border: too little is seen"
    return None


def _quality(knee: Found, cut: Cut) -> tuple[str, ...]:
    """Flags for what may bend the reading of a crop."""
    low, high = np.quantile(cut.pixels, (0.02, 0.98))
    blank = max(
        float(np.mean(cut.pixels <= cut.pixels.min())), float(np.mean(cut.pixels >= cut.pixels.max()))
    )
    checks = {
        flags.FAINT_KNEE: knee.score < _FAINT_SCORE,
        flags.FEW_PIXELS: knee.width < _FEW_PIXELS,
        flags.NEAR_BORDER: cut.outside > _NEAR_BORDER,
        flags.LOW_CONTRAST: float(high - low) < _LOW_CONTRAST,
        flags.PARTLY_BLANK: blank > _BLANK_SHARE,
    }
    return tuple(flag for flag, holds in checks.items() if holds)
