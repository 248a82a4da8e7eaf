"""Films that try what must not be scored, or must be: other views, metal, narrow strips, by grade."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from kneerisk_train.data.knees import Knees
from kneerisk_train.films.composites import compose
from kneerisk_train.films.films import Film, FilmArray

from kneerisk.errors import Reason
from kneerisk.radiograph.flags import METAL_SEEN
from kneerisk.radiograph.locate.crop import JOINT_IN_CROP, WIDTH_IN_CROP
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal
from kneerisk.simulate.implant import HARDWARE, JOINTS, draw_metal
from kneerisk.simulate.other_views import PARTS, simulate_other_view

SEEDS = 1_000
"""From here on: smaller seeds chose the cuts."""
STRIP = (300, 162)
"""Rows and columns of a narrow strip."""


@dataclass
class Count:
    """How many images of a kind were scored, refused or flagged, and why."""

    images: int = 0
    scored: int = 0
    metal: int = 0
    """Refused as replaced, or flagged for metal."""
    reasons: Counter[str] = field(default_factory=Counter)
    scored_by_grade: Counter[int] = field(default_factory=Counter)
    images_by_grade: Counter[int] = field(default_factory=Counter)

    def add(self, results: list[KneeCrop | Refusal], grade: int | None = None) -> None:
        """Count one image's knees and refusals."""
        self.images += 1
        crops = [result for result in results if isinstance(result, KneeCrop)]
        refused = [result for result in results if isinstance(result, Refusal)]
        self.scored += bool(crops)
        self.metal += any(METAL_SEEN in crop.qc_flags for crop in crops) or any(
            refusal.reason is Reason.IMPLANT for refusal in refused
        )
        self.reasons.update(str(refusal.reason) for refusal in refused)
        if grade is not None:
            self.images_by_grade[grade] += 1
            self.scored_by_grade[grade] += bool(crops)

    def words(self) -> str:
        """The count in a line."""
        grades = " ".join(
            f"KL{grade} {100 * (1 - self.scored_by_grade[grade] / number):.1f}"
            for grade, number in sorted(self.images_by_grade.items())
        )
        reasons = " ".join(f"{reason} {number}" for reason, number in self.reasons.most_common())
        shares = (
            f"scored {100 * self.scored / self.images:5.1f}%  metal {100 * self.metal / self.images:5.1f}%"
        )
        return f"{self.images:5d} {shares}  {reasons}{'  refused % by grade: ' + grades if grades else ''}"


def localised(
    localiser: KneeLocaliser, pixels: FilmArray, name: str = "film.png"
) -> list[KneeCrop | Refusal]:
    """What the localiser makes of pixels of unknown spacing."""
    return localiser.localise(Radiograph(RadiographRef(Path(name), name), pixels, "0"))


def beside(knees: Knees, index: int, size: int) -> Film:
    """One composite of a val knee with a lateral or patellar view on a second panel."""
    rng = np.random.default_rng((13, index))
    film = compose(knees, rng, "single", size)
    shown = film.pixels
    other = simulate_other_view(SEEDS + index, "skyline" if index % 4 == 0 else "lateral knee")
    scale = len(shown) / len(other)
    panel = cv2.resize(other, (round(other.shape[1] * scale), len(shown)), interpolation=cv2.INTER_AREA)
    first = bool(rng.random() < 0.5)
    shift = panel.shape[1] if first else 0
    pixels = np.concatenate([panel, shown] if first else [shown, panel], axis=1)
    return Film(np.asarray(pixels, np.float32), [(k[0] + shift, *k[1:]) for k in film.knees])


def with_metal(knees: Knees, index: int, kind: str, rng: np.random.Generator) -> FilmArray:
    """A knee's crop with metal drawn on it, its grey scale bent a little."""
    crop = knees.pixels[index].astype(np.float32) / 255
    side = len(crop)
    turn = float(rng.normal(0, 0.05))
    width = WIDTH_IN_CROP * side * float(rng.normal(1, 0.03))
    middle = np.array(JOINT_IN_CROP) * (side - 1) + rng.normal(0, 3, 2)
    frame = np.column_stack(
        [width * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]), middle]
    )
    spread = 0.4 if rng.random() < 0.5 else 0.0
    shown = draw_metal(crop, (JOINTS | HARDWARE)[kind](rng), frame, rng, spread=spread)
    return np.asarray(shown ** float(np.exp(rng.normal(0, 0.3))), np.float32)


def resized(crop: FilmArray, shape: tuple[int, int]) -> FilmArray:
    """A crop squeezed or stretched to (rows, columns)."""
    return np.asarray(cv2.resize(crop, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def strip(crop: FilmArray) -> FilmArray:
    """A crop cut to its joint and mirrored up and down beyond its border, as narrow as some films are."""
    side = len(crop)
    across = JOINT_IN_CROP[0] * (side - 1)
    half = 0.56 * WIDTH_IN_CROP * side
    left, right = max(0, round(across - half)), min(side, round(across + half))
    tall = round((right - left) * STRIP[0] / STRIP[1])
    margin = (tall - side) // 2
    cut = cv2.copyMakeBorder(
        np.ascontiguousarray(crop[:, left:right]), margin, margin, 0, 0, borderType=cv2.BORDER_REFLECT_101
    )
    return resized(np.asarray(cut, np.float32), STRIP)


def margined(crop: FilmArray) -> FilmArray:
    """A crop of a collimated film: bands as white as it gets, a little askew, on three sides."""
    shown = crop.copy()
    rows, columns = np.indices(shown.shape)
    shown[(columns < 20 + 0.06 * rows) | (columns > 200 + 0.06 * rows) | (rows > 206)] = crop.max()
    return shown


WHOLE = ("as stored", "strips of 300 x 162")
"""Measured on every val crop, not on every other one."""
Image = tuple[FilmArray, str, int | None]
"""Pixels, the file's name, the reader's grade."""
RESHAPES: dict[str, Callable[[FilmArray], FilmArray]] = {
    "as stored": lambda crop: crop,
    "112 x 112": lambda crop: resized(crop, (112, 112)),
    "448 x 448": lambda crop: resized(crop, (448, 448)),
    "300 x 224": lambda crop: resized(crop, (300, 224)),
    "squeezed to 300 x 162": lambda crop: resized(crop, STRIP),
    "strips of 300 x 162": strip,
    "with white margins": margined,
}


def counts(localiser: KneeLocaliser, knees: Knees, number: int) -> Iterator[tuple[str, Callable[[], Count]]]:
    """The table, row by row, of about ``number`` images each: a name, and what measures it."""

    def of(images: Callable[[], Iterator[Image]]) -> Callable[[], Count]:
        def counted() -> Count:
            count = Count()
            for pixels, name, grade in images():
                count.add(localised(localiser, pixels, name), grade)
            return count

        return counted

    for part in PARTS:
        yield f"other views, {part}", of(partial(_others, number // 2, part))
    for kind in JOINTS | HARDWARE:
        yield f"metal, {kind}", of(partial(_metal, knees, number, kind))
    for name, reshape in RESHAPES.items():
        yield f"val crops, {name}", of(partial(_crops, knees, reshape, 1 if name in WHOLE else 2))


def _others(number: int, part: str) -> Iterator[Image]:
    for index in range(number):
        yield simulate_other_view(SEEDS + index, part), "film.png", None


def _metal(knees: Knees, number: int, kind: str) -> Iterator[Image]:
    rng = np.random.default_rng(17)
    for _ in range(number):
        yield with_metal(knees, int(rng.integers(len(knees))), kind, rng), "knee_R.png", None


def _crops(knees: Knees, reshape: Callable[[FilmArray], FilmArray], every: int) -> Iterator[Image]:
    for index in range(0, len(knees), every):
        crop = knees.pixels[index].astype(np.float32) / 255
        yield reshape(crop), "knee_R.png", int(knees.grade[index])
