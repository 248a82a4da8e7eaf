"""``--previews``: one picture for each knee: the crop and its forecast, landmarks, grades and risk."""

from __future__ import annotations

import io
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneerisk.marks import marked_png
from kneerisk.records import KL_GRADES, LANDMARKS, FloatArray, KneeScore
from kneerisk.scoring.outputs.table import replace_with
from kneerisk.storage import writing

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_BACKGROUND: Colour = (17, 20, 24)
_PANEL: Colour = (27, 32, 38)
_TEXT: Colour = (232, 236, 240)
_MUTED: Colour = (146, 156, 168)
_NOW: Colour = (96, 165, 250)
_LATER: Colour = (251, 146, 60)
_SCALE = 2  # drawn at twice the size and reduced, so that lines are smooth
_PICTURE = 420
_MARGIN = 24
_SIDE_PANEL = 340
_TOP = 84
_BOTTOM = 44
_SIZE = (4 * _MARGIN + 2 * _PICTURE + _SIDE_PANEL, _TOP + _PICTURE + 34 + _BOTTOM)


class PreviewKeeper:
    """Writes ``<participant>_<visit>_<side>_<image index>.png`` into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, index: int, score: KneeScore, forecast: FloatArray) -> None:
        """Draw one knee; the file is complete or absent."""
        stream = io.BytesIO()
        draw(score, forecast).save(stream, format="PNG")
        path = self._folder / file_name(index, score)
        aside = path.with_name(path.name + ".new")
        with writing(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(marked_png(stream.getvalue()))
            replace_with(aside, path)


def file_name(index: int, score: KneeScore) -> str:
    """Plain characters only: ids may hold any."""
    crop = score.prediction.crop
    parts = (
        crop.participant_id or Path(crop.ref.source_path).stem,
        crop.ref.visit,
        crop.side,
        f"{index:06d}",
    )
    return "_".join(re.sub(r"[^\w.-]+", "-", part)[:60] for part in parts if part) + ".png"


def draw(score: KneeScore, forecast: FloatArray) -> Image.Image:
    """The picture of one knee.

    Args:
        score: the knee.
        forecast: [S, S] in 0..1, the decoded first future, in equalised greys; shown in the crop's own.
    """
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (_SIZE[0] * _SCALE, _SIZE[1] * _SCALE), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(canvas))
    prediction = score.prediction
    crop = prediction.crop
    pictures = (
        ("Radiograph", crop.pixels, prediction.landmarks_now, _NOW),
        (
            "Forecast at 12 months (generated)",
            in_greys_of(forecast, crop.pixels),
            prediction.landmarks_12m,
            _LATER,
        ),
    )
    _heading(pen, score)
    for column, (title, pixels, landmarks, colour) in enumerate(pictures):
        left = _MARGIN + column * (_PICTURE + _MARGIN)
        canvas.paste(_grey(pixels), (left * _SCALE, _TOP * _SCALE))
        _landmarks(pen, landmarks * (_PICTURE / pixels.shape[0]), (left, _TOP), colour)
        pen.dot(left + 5, _TOP + _PICTURE + 19, 4, colour)
        pen.text(left + 16, _TOP + _PICTURE + 10, title, 15, _TEXT)
    _panel(pen, score, 3 * _MARGIN + 2 * _PICTURE)
    pen.text(
        _MARGIN,
        _SIZE[1] - 32,
        "Research use only, not a diagnosis. Right-knee frame; landmarks and forecast are unvalidated.",
        13,
        _MUTED,
    )
    return canvas.resize(_SIZE, Image.Resampling.LANCZOS)


def in_greys_of(equalised: FloatArray, pixels: FloatArray) -> FloatArray:
    """Equalised [S, S] (each value a rank) → the greys that have those ranks in ``pixels``."""
    ordered = np.sort(pixels, axis=None)
    ranks = (np.arange(ordered.size) + 0.5) / ordered.size
    return np.interp(equalised, ranks, ordered).astype(np.float32)


def drawable(words: str) -> str:
    """Words with their accents taken off: the font that Pillow brings has none, and draws a box instead."""
    parts = unicodedata.normalize("NFD", words)
    return "".join(letter for letter in parts if not unicodedata.combining(letter))


class _Pen:
    """Draws in the picture's own coordinates."""

    def __init__(self, target: ImageDraw.ImageDraw) -> None:
        self._target = target
        self._fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def text(self, x: float, y: float, words: str, size: int, colour: Colour, anchor: str = "la") -> None:
        self._target.text((x * _SCALE, y * _SCALE), words, fill=colour, font=self._font(size), anchor=anchor)

    def fitted(self, x: float, y: float, words: str, size: int, colour: Colour, width: float) -> None:
        """Text that is cut where it would run over ``width``."""
        font, words = self._font(size), drawable(words)
        while len(words) > 1 and font.getlength(words) > width * _SCALE:
            words = words[:-2] + "…"
        self.text(x, y, words, size, colour)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour, radius: float = 0) -> None:
        corners = (x * _SCALE, y * _SCALE, (x + width) * _SCALE, (y + height) * _SCALE)
        self._target.rounded_rectangle(corners, radius * _SCALE, fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        corners = ((x - radius) * _SCALE, (y - radius) * _SCALE, (x + radius) * _SCALE, (y + radius) * _SCALE)
        self._target.ellipse(corners, fill=colour, outline=_BACKGROUND, width=_SCALE)

    def line(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self._target.line([(x * _SCALE, y * _SCALE) for x, y in points], fill=colour, width=3, joint="curve")

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        from PIL import ImageFont

        if size not in self._fonts:
            self._fonts[size] = ImageFont.load_default(size * _SCALE)
        return self._fonts[size]


def _grey(pixels: FloatArray) -> Image.Image:
    from PIL import Image

    side = _PICTURE * _SCALE
    low, high = np.percentile(pixels, (0.2, 99.8))
    stretched = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1)
    grey = Image.fromarray((stretched * 255).astype(np.uint8))
    return grey.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def _heading(pen: _Pen, score: KneeScore) -> None:
    crop = score.prediction.crop
    side = {"R": "right knee", "L": "left knee (shown mirrored)"}[crop.side]
    title = "  ·  ".join(part for part in (crop.participant_id, crop.ref.visit, side) if part)
    width = _SIZE[0] - 2 * _MARGIN
    pen.fitted(_MARGIN, 18, title, 24, _TEXT, width)
    pen.fitted(_MARGIN, 52, crop.ref.source_path, 14, _MUTED, width)


def _landmarks(pen: _Pen, points: FloatArray, origin: tuple[int, int], colour: Colour) -> None:
    placed = [(float(x) + origin[0], float(y) + origin[1]) for x, y in points]
    for bone in "TF":
        pen.line([p for p, name in zip(placed, LANDMARKS, strict=True) if name.startswith(bone)], colour)
    for x, y in placed:
        pen.dot(x, y, 3.6, colour)


def _panel(pen: _Pen, score: KneeScore, left: int) -> None:
    prediction = score.prediction
    height = _PICTURE + 34
    pen.box(left, _TOP, _SIDE_PANEL, height, _PANEL, radius=10)
    x, width = left + 22, _SIDE_PANEL - 44
    pen.text(x, _TOP + 20, "12-month risk of progression", 15, _MUTED)
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

    base, tallest = _TOP + 352, 168
    pen.text(x, _TOP + 152, "Kellgren-Lawrence grade", 15, _MUTED)
    step = width / len(KL_GRADES)
    later = prediction.p_12m.mean(axis=0)
    for grade in KL_GRADES:
        middle = x + step * (grade + 0.5)
        for offset, p, colour in ((-17.0, prediction.p_now[grade], _NOW), (1.0, later[grade], _LATER)):
            bar = max(float(p) * tallest, 1.5)
            pen.box(middle + offset, base - bar, 16, bar, colour, radius=1.5)
            if p >= 0.15:
                pen.text(middle + offset + 8, base - bar - 4, f"{100 * p:.0f}", 11, _MUTED, anchor="ms")
        pen.text(middle, base + 8, str(grade), 15, _TEXT, anchor="ma")
    pen.box(x, base, width, 1, _MUTED)
    for column, (colour, words) in enumerate(((_NOW, "now"), (_LATER, "at 12 months"))):
        pen.dot(x + 6 + 80 * column, base + 46, 5, colour)
        pen.text(x + 18 + 80 * column, base + 37, words, 14, _TEXT)
    if score.qc_flags:
        pen.fitted(x, base + 70, "check: " + ", ".join(score.qc_flags), 13, _LATER, width)
