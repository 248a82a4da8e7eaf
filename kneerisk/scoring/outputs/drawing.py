"""The picture of one knee: its crop and forecast, landmarks, grades and risk.

Drawn at its own size on what all pictures share, and kept in 256 colours: a tenth of the time that a
supersampled picture in full colour takes, which would cost a run more than its networks do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.radiograph import flags
from kneerisk.records import KL_GRADES, LANDMARKS, FloatArray, KneeScore

if TYPE_CHECKING:
    from PIL import Image, ImageFont

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]
"""[H, W, 3] red, green, blue, or [H, W] of the palette."""

_BACKGROUND: Colour = (17, 20, 24)
_PANEL: Colour = (27, 32, 38)
_TEXT: Colour = (232, 236, 240)
_MUTED: Colour = (146, 156, 168)
_NOW: Colour = (96, 165, 250)
_LATER: Colour = (45, 212, 191)
_CHECK: Colour = (251, 146, 60)
"""For what a person should look at, and for nothing else."""
_PICTURE = 420
_MARGIN = 24
_SIDE_PANEL = 340
_TOP = 84
_BOTTOM = 44
_SIZE = (4 * _MARGIN + 2 * _PICTURE + _SIDE_PANEL, _TOP + _PICTURE + 34 + _BOTTOM)
_PANEL_LEFT, _PANEL_HEIGHT = 3 * _MARGIN + 2 * _PICTURE, _PICTURE + 34
_BASE, _TALLEST = _TOP + 352, 168
"""Of the bars: where they stand, and the height of a certain grade's."""
_SUBPIXEL = 4
_GREYS = 160
_COARSE = 5
"""Bits a channel by which a colour's nearest of the palette is looked up."""


def draw(score: KneeScore, forecast: FloatArray) -> Image.Image:
    """The picture of one knee, in 256 colours.

    Args:
        score: the knee.
        forecast: [S, S] in 0..1, the first future's picture, in equalised greys; shown in the crop's own.
    """
    from PIL import Image

    prediction = score.prediction
    crop = prediction.crop
    ordered = np.sort(crop.pixels, axis=None)
    shown = (
        (crop.pixels, prediction.landmarks_now, _NOW),
        (in_greys_of(forecast, ordered), prediction.landmarks_12m, _LATER),
    )
    ground, kept = _ground()
    kept = kept.copy()
    for column, (pixels, landmarks, colour) in enumerate(shown):
        grey = _grey(pixels, ordered)
        pen = _Pen(np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8))
        near = _landmarks(pen, landmarks * (_PICTURE / pixels.shape[0]), colour)
        part = kept[_TOP : _TOP + _PICTURE, _left_of(column) : _left_of(column) + _PICTURE]
        cv2.LUT(grey, _grey_places(), dst=grey)
        part[:] = grey
        drawn, part = pen.canvas[near], part[near]
        coloured = np.nonzero(drawn[..., 0] != drawn[..., 2])
        part[coloured] = _places(drawn[coloured])
    for area, origin, write in (
        (np.s_[:_TOP, :], (0, 0), _heading),
        (np.s_[_TOP : _TOP + _PANEL_HEIGHT, _PANEL_LEFT:], (_PANEL_LEFT, _TOP), _panel),
    ):
        pen = _Pen(ground[area].copy(), origin)
        write(pen, score)
        for place in pen.touched:
            kept[area][place] = _places(pen.canvas[place])
    image = Image.fromarray(kept)
    image.putpalette(_palette().tobytes())
    return image


def in_greys_of(equalised: FloatArray, ordered: FloatArray) -> FloatArray:
    """Equalised [S, S] (each value a rank) → the greys that have those ranks in ``ordered``, ascending."""
    places = (equalised * ordered.size).astype(np.intp).clip(0, ordered.size - 1)
    return np.asarray(ordered[places], np.float32)


def drawable(words: str) -> str:
    """Words with their accents taken off: the font that Pillow brings has none, and draws a box instead."""
    parts = unicodedata.normalize("NFD", words)
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


class _Pen:
    """Draws on a part of the picture, whose upper left corner is ``origin``, in the picture's coordinates."""

    def __init__(self, canvas: Pixels, origin: tuple[int, int] = (0, 0)) -> None:
        self.canvas = canvas
        self._origin = origin
        self.touched: list[tuple[slice, slice]] = []
        """Where texts and boxes are."""

    def text(self, x: float, y: float, words: str, size: int, colour: Colour, anchor: str = "la") -> None:
        ink, (right, down) = _label(words, size, anchor)
        left, top = round(x) + right - self._origin[0], round(y) + down - self._origin[1]
        place = np.s_[max(top, 0) : top + ink.shape[0], max(left, 0) : left + ink.shape[1]]
        self.touched.append(place)
        part = self.canvas[place]
        share = ink[: part.shape[0], : part.shape[1], None]
        part[:] = np.round(part + share * (np.asarray(colour, np.float32) - part))

    def fitted(self, x: float, y: float, words: str, size: int, colour: Colour, width: float) -> None:
        """Text that is cut where it would run over ``width``."""
        font, words = _font(size), drawable(words)
        while len(words) > 1 and font.getlength(words) > width:
            words = words[:-2] + "…"
        self.text(x, y, words, size, colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        left, top = x - self._origin[0], y - self._origin[1]
        place = np.s_[round(top) : round(top + height), round(left) : round(left + width)]
        self.touched.append(place)
        self.canvas[place] = colour

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        for size, ink in ((radius + 0.5, _BACKGROUND), (radius - 0.5, colour)):
            ((across, down),) = self._places([(x, y)]).tolist()
            extent = round(size * (1 << _SUBPIXEL))
            cv2.circle(self.canvas, (across, down), extent, ink, -1, cv2.LINE_AA, _SUBPIXEL)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        cv2.polylines(self.canvas, [self._places(points)], False, colour, 1, cv2.LINE_AA, _SUBPIXEL)

    def _places(self, points: Sequence[tuple[float, float]]) -> npt.NDArray[np.int32]:
        """In OpenCV's parts of a pixel."""
        return np.round((np.asarray(points) - self._origin) * (1 << _SUBPIXEL)).astype(np.int32)


@lru_cache(maxsize=2048)
def _label(words: str, size: int, anchor: str) -> tuple[FloatArray, tuple[int, int]]:
    """A text's ink, 0..1 [H, W], and where it stands from its place: most texts come again and again."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = (round(edge) for edge in _font(size).getbbox(words, anchor=anchor))
    image = Image.new("L", (max(1, right - left + 2), max(1, bottom - top + 2)))
    ImageDraw.Draw(image).text((1 - left, 1 - top), words, fill=255, font=_font(size), anchor=anchor)
    return np.asarray(image, np.float32) / np.float32(255), (left - 1, top - 1)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _left_of(column: int) -> int:
    return _MARGIN + column * (_PICTURE + _MARGIN)


@cache
def _ground() -> tuple[Pixels, Pixels]:
    """What all pictures share, in full colour and in the palette's."""
    canvas = np.empty((_SIZE[1], _SIZE[0], 3), np.uint8)
    canvas[:] = _BACKGROUND
    pen = _Pen(canvas)
    pen.box(_PANEL_LEFT, _TOP, _SIDE_PANEL, _PANEL_HEIGHT, _PANEL)
    for column, (title, colour) in enumerate(
        (("Radiograph", _NOW), ("Forecast at 12 months (generated, texture copied)", _LATER))
    ):
        pen.dot(_left_of(column) + 5, _TOP + _PICTURE + 19, 4, colour)
        pen.text(_left_of(column) + 16, _TOP + _PICTURE + 10, title, 15, _TEXT)
    words = "Research use only, not a diagnosis. Right-knee frame; landmarks and forecast are unvalidated."
    pen.text(_MARGIN, _SIZE[1] - 32, words, 13, _MUTED)
    x, width = _PANEL_LEFT + 22, _SIDE_PANEL - 44
    pen.text(x, _TOP + 20, "12-month risk of progression", 15, _MUTED)
    pen.text(x, _TOP + 152, "Kellgren-Lawrence grade", 15, _MUTED)
    for grade in KL_GRADES:
        pen.text(x + width / len(KL_GRADES) * (grade + 0.5), _BASE + 8, str(grade), 15, _TEXT, anchor="ma")
    pen.box(x, _BASE, width, 1, _MUTED)
    for column, (colour, words) in enumerate(((_NOW, "now"), (_LATER, "at 12 months"))):
        pen.dot(x + 6 + 80 * column, _BASE + 43, 5, colour)
        pen.text(x + 18 + 80 * column, _BASE + 34, words, 14, _TEXT)
    return canvas, _places(canvas)


@cache
def _palette() -> Pixels:
    """[256, 3]: greys, the landmarks' colours over them, and each text's on its ground, in steps."""
    greys = np.linspace(0, 255, _GREYS)[:, None].repeat(3, axis=1)
    marks = [
        _mixed((level, level, level), colour, share)
        for colour in (_NOW, _LATER)
        for level in (0, 64, 128, 192, 255)
        for share in (0.25, 0.5, 0.75, 1.0)
    ]
    inks = [
        _mixed(ground, ink, (step + 1) / 6)
        for ground in (_PANEL, _BACKGROUND)
        for ink in (_TEXT, _MUTED, _CHECK, _NOW, _LATER)
        for step in range(5)
    ]
    colours = [*greys, _BACKGROUND, _PANEL, _TEXT, _MUTED, _CHECK, *marks, *inks]
    found = np.zeros((256, 3), np.uint8)
    found[: len(colours)] = np.round(colours)
    return found


def _mixed(ground: Colour, ink: Colour, share: float) -> npt.NDArray[np.float64]:
    return np.asarray((1 - share) * np.asarray(ground, float) + share * np.asarray(ink, float))


@cache
def _grey_places() -> Pixels:
    """[256]: grey → its place in the palette."""
    return np.round(np.arange(256) * ((_GREYS - 1) / 255)).astype(np.uint8)


@cache
def _nearest() -> Pixels:
    """Coarse colour → the place of the palette's nearest."""
    steps = (np.arange(1 << _COARSE) << (8 - _COARSE)) + (1 << (7 - _COARSE))
    colours = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    palette = _palette().astype(float)
    apart = (palette**2).sum(axis=1) - 2 * colours @ palette.T
    return np.asarray(apart.argmin(axis=1), np.uint8)


def _places(pixels: Pixels) -> Pixels:
    """Colours [..., 3] → the places of the palette's nearest."""
    down = 8 - _COARSE
    red, green, blue = (pixels[..., channel].astype(np.intp) >> down for channel in range(3))
    return np.asarray(_nearest()[(red << 2 * _COARSE) | (green << _COARSE) | blue])


def _grey(pixels: FloatArray, ordered: FloatArray) -> Pixels:
    """[_PICTURE, _PICTURE], stretched between the 0.2nd and the 99.8th percentile of the crop."""
    low, high = (float(ordered[round(share * (ordered.size - 1))]) for share in (0.002, 0.998))
    stretched = ((pixels - low) * (255 / max(high - low, 1e-6))).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(stretched, (_PICTURE, _PICTURE), interpolation=cv2.INTER_CUBIC), np.uint8)


def _heading(pen: _Pen, score: KneeScore) -> None:
    crop = score.prediction.crop
    side = {"R": "right knee", "L": "left knee (shown mirrored)"}[crop.side]
    title = "  ·  ".join(part for part in (crop.participant_id, crop.ref.visit, side) if part)
    width = _SIZE[0] - 2 * _MARGIN
    pen.fitted(_MARGIN, 18, title, 24, _TEXT, width)
    pen.fitted(_MARGIN, 52, crop.ref.source_path, 14, _MUTED, width)


def _landmarks(pen: _Pen, points: FloatArray, colour: Colour) -> tuple[slice, slice]:
    """Draw the points and their lines; tells which part of the picture they are in."""
    placed = [(float(x), float(y)) for x, y in points]
    for bone in "TF":
        pen.line([p for p, name in zip(placed, LANDMARKS, strict=True) if name.startswith(bone)], colour)
    for x, y in placed:
        pen.dot(x, y, 3.6, colour)
    left, top = np.maximum(points.min(axis=0).astype(int) - 6, 0).tolist()
    right, bottom = (points.max(axis=0).astype(int) + 7).tolist()
    return np.s_[top : max(bottom, 0), left : max(right, 0)]


def _panel(pen: _Pen, score: KneeScore) -> None:
    prediction = score.prediction
    x, width = _PANEL_LEFT + 22, _SIDE_PANEL - 44
    pen.text(x, _TOP + 42, f"{100 * score.risk_12m:.1f} %", 44, _TEXT)
    details = "calibrated, from the image"
    if score.risk_12m_basis == "grade":
        details = f"calibrated, given the reader's KL {prediction.crop.ref.kl_0m}"
    pen.text(x, _TOP + 100, details, 13, _MUTED)
    also = []
    if score.risk_12m_lo is not None and score.risk_12m_hi is not None:
        also.append(f"futures {100 * score.risk_12m_lo:.1f}-{100 * score.risk_12m_hi:.1f} %")
    if score.risk_12m_basis == "grade":
        also.append(f"from the image {100 * score.risk_12m_image:.1f} %")
    pen.text(x, _TOP + 120, "; ".join(also), 13, _MUTED)
    step = width / len(KL_GRADES)
    later = prediction.p_12m.mean(axis=0)
    for grade in KL_GRADES:
        middle = x + step * (grade + 0.5)
        for offset, p, colour in ((-17.0, prediction.p_now[grade], _NOW), (1.0, later[grade], _LATER)):
            bar = max(float(p) * _TALLEST, 1.5)
            pen.box(middle + offset, _BASE - bar, 16, bar, colour)
            if p >= 0.15:
                pen.text(middle + offset + 8, _BASE - bar - 4, f"{100 * p:.0f}", 11, _MUTED, anchor="ms")
    y = _BASE + 62
    check, noted = flags.apart(score.qc_flags)
    for word, found, colour in (("check", check, _CHECK), ("noted", noted, _MUTED)):
        if found:
            pen.fitted(x, y, f"{word}: {', '.join(found)}", 13, colour, width)
            y += 17
