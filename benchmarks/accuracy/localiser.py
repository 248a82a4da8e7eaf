"""How well the localiser finds knees: ``python -m benchmarks.accuracy.localiser --data PREPARED --stack S``.

Composites of val crops and simulated radiographs of unseen seeds, under what befalls radiographs; Chen's
val crops as they are; films without a knee, and with another view beside one; then, of other views, of metal
drawn on val crops and of val crops in other shapes, how many are scored, refused or flagged.  All of
:mod:`kneerisk.radiograph.locate.localise` is measured, not the heatmaps alone.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from kneerisk_train.data.knees import Knees
from kneerisk_train.films import clutter
from kneerisk_train.films.composites import compose
from kneerisk_train.films.films import Film, warp
from kneerisk_train.films.simulated import EVALUATION_SEEDS, as_film

from benchmarks.accuracy.confounders import beside, counts
from benchmarks.accuracy.val import val_knees, val_rows, without_metal
from kneerisk.compile.open import open_network
from kneerisk.errors import Reason
from kneerisk.radiograph.flags import CROPPED_INPUT, INVERSION_DETECTED
from kneerisk.radiograph.locate.crop import CROP_SIZE, JOINT_IN_CROP, JOINT_WIDTH_MM, WIDTH_IN_CROP
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal, SpacingSource
from kneerisk.simulate.radiograph import simulate_radiograph
from kneerisk.stack.stack import Stack

log = logging.getLogger(__name__)
SIZE = 256
FILM = 768
"""Pixels a side of a composite: real films are larger still."""
CLOSE_MM = 5.0
Case = tuple[Film, float | None, bool]
"""A film, its mm per px (None: unknown), whether its grey scale is reversed."""
Change = Callable[[Film, np.random.Generator], Film]


@dataclass
class Tally:
    """What happened to the knees of one kind of film."""

    films: int = 0
    knees: int = 0
    found: int = 0
    side_right: int = 0
    as_it_is: int = 0
    """Recognised as a crop already, so that no centre was chosen."""
    close: int = 0
    """Centre within 5 mm of the truth, of those that were cut out."""
    median_mm: float | None = None
    p95_mm: float | None = None
    cut_off: int = 0
    """Refused as cut off by the border, of the knees not found."""
    extra: int = 0
    """Crops where no knee is."""
    implants: int = 0
    implants_refused: int = 0
    implants_supposed: int = 0
    inversion_right: int = 0
    """Films whose grey scale came out right."""


def tally(localiser: KneeLocaliser, films: Iterator[Case]) -> Tally:
    """Localise films of known knees."""
    total = Tally()
    errors: list[float] = []
    for film, spacing, inverted in films:
        known = (spacing, spacing) if spacing is not None else None
        source: SpacingSource = "option" if spacing is not None else "unknown"
        ref = RadiographRef(Path("film.png"), "film.png")
        results = localiser.localise(Radiograph(ref, film.pixels, "0", known, source))
        flags = {flag for result in results for flag in result.qc_flags}
        total.films += 1
        total.inversion_right += (INVERSION_DETECTED in flags) == inverted
        left = list(results)
        for x, y, width, side, metal in film.knees:
            total.knees += not metal
            total.implants += metal
            named = "R" if side == 0 else "L"
            near = [(_distance(crop, x, y), crop) for crop in left if isinstance(crop, KneeCrop)]
            near = [pair for pair in near if pair[0] < width / 2]
            if not near:
                refused = [r for r in left if isinstance(r, Refusal) and r.side == named]
                total.implants_refused += metal and any(r.reason is Reason.IMPLANT for r in refused)
                total.implants_supposed += not metal and any(r.reason is Reason.IMPLANT for r in refused)
                total.cut_off += not metal and any(r.reason is Reason.KNEE_CUT_OFF for r in refused)
                continue
            distance, crop = min(near, key=lambda pair: pair[0])
            left.remove(crop)
            if metal:
                continue
            total.found += 1
            total.side_right += crop.side == named
            if CROPPED_INPUT in crop.qc_flags:
                total.as_it_is += 1
                continue
            errors.append(distance * (spacing if spacing is not None else JOINT_WIDTH_MM / width))
            total.close += errors[-1] <= CLOSE_MM
        total.extra += sum(isinstance(result, KneeCrop) for result in left)
    if errors:
        total.median_mm, total.p95_mm = (round(float(np.quantile(errors, q)), 2) for q in (0.5, 0.95))
    return total


def _distance(crop: KneeCrop, x: float, y: float) -> float:
    at = crop.to_source @ np.array([*(np.array(JOINT_IN_CROP) * (CROP_SIZE - 1)), 1.0], np.float32)
    return float(np.hypot(at[0] - x, at[1] - y))


def simulated(count: int, change: Change, *, view: str, spacing_known: bool = True) -> Iterator[Case]:
    """Simulated radiographs of seeds that no training saw, changed."""
    for index in range(count):
        rng = np.random.default_rng((7, index))
        shown = simulate_radiograph(
            EVALUATION_SEEDS + index,
            view="bilateral" if view == "bilateral" else "single",
            side="R" if index % 2 else "L",
            spacing_mm=0.6,
        )
        yield change(as_film(shown), rng), shown.spacing_mm if spacing_known else None, change is invert


def composites(knees: Knees, count: int, kind: str) -> Iterator[Case]:
    """Composites of crops that no training saw."""
    for index in range(count):
        rng = np.random.default_rng((11, index))
        film = (
            beside(knees, index, FILM) if kind == "beside another view" else compose(knees, rng, kind, FILM)
        )
        yield film, None, False


def crops_as_they_are(chen: Path) -> Iterator[Case]:
    """Chen's crops as stored, inverted ones and left ones included; their joints where crops have it."""
    for row in val_rows(chen):
        stored = cv2.imread(str(chen / row["file"]), cv2.IMREAD_GRAYSCALE)
        if stored is None:
            raise FileNotFoundError(chen / row["file"])
        side = int(row["side"] == "L")
        x, y = (share * (CROP_SIZE - 1) for share in JOINT_IN_CROP)
        knee = (CROP_SIZE - 1 - x if side else x, y, WIDTH_IN_CROP * CROP_SIZE, side, False)
        yield Film(np.asarray(stored / 255, np.float32), [knee]), None, row["inverted"] == "true"


def unchanged(film: Film, rng: np.random.Generator) -> Film:
    """As it is."""
    return film


def dark(film: Film, rng: np.random.Generator) -> Film:
    """A steep gamma and eight bits."""
    return replace(film, pixels=np.asarray(np.round(film.pixels**3 * 255) / 255, np.float32))


def bright(film: Film, rng: np.random.Generator) -> Film:
    """A flat gamma, its highest tenth saturated."""
    return replace(
        film, pixels=np.minimum(film.pixels**0.4, np.quantile(film.pixels**0.4, 0.9)).astype(np.float32)
    )


def invert(film: Film, rng: np.random.Generator) -> Film:
    """The grey scale reversed."""
    return replace(film, pixels=1 - film.pixels)


def turned(film: Film, rng: np.random.Generator) -> Film:
    """Turned by up to ten degrees."""
    height, width = film.pixels.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-10, 10)), 1.0)
    knees = [(*(turn @ np.array([k[0], k[1], 1.0])).tolist(), *k[2:]) for k in film.knees]
    return Film(warp(film.pixels, turn, film.pixels.shape), knees)


def marked(film: Film, rng: np.random.Generator) -> Film:
    """With hands, rulers, markers, text and collimation drawn on."""
    for _ in range(2):
        film = replace(film, pixels=clutter.film_marks(film.pixels, rng))
    return film


def trimmed(film: Film, rng: np.random.Generator) -> Film:
    """Cropped towards the knees, as a collimated or cut film is."""
    width = max(knee[2] for knee in film.knees)
    low_x, high_x = min(k[0] for k in film.knees) - 0.7 * width, max(k[0] for k in film.knees) + 0.7 * width
    low_y, high_y = min(k[1] for k in film.knees) - 0.8 * width, max(k[1] for k in film.knees) + 0.8 * width
    left, top = max(0, int(low_x)), max(0, int(low_y))
    knees = [(k[0] - left, k[1] - top, *k[2:]) for k in film.knees]
    return Film(np.ascontiguousarray(film.pixels[top : int(high_y), left : int(high_x)]), knees)


CHANGES: dict[str, Change] = {
    "dark": dark,
    "bright": bright,
    "inverted": invert,
    "turned": turned,
    "marked": marked,
    "trimmed": trimmed,
}


def rows(
    localiser: KneeLocaliser, prepared: Path, chen: Path | None, count: int
) -> Iterator[tuple[str, Callable[[], Tally]]]:
    """The table, row by row: a name, and what measures it."""
    val, few = without_metal(val_knees(prepared)), max(1, count // 4)

    def of(films: Callable[[], Iterator[Case]]) -> Callable[[], Tally]:
        return lambda: tally(localiser, films())

    yield "simulated, both", of(lambda: simulated(count, unchanged, view="bilateral"))
    yield "simulated, one", of(lambda: simulated(count, unchanged, view="single"))
    yield (
        "simulated, no spacing",
        of(lambda: simulated(few, unchanged, view="bilateral", spacing_known=False)),
    )
    for name, change in CHANGES.items():
        yield f"simulated, {name}", of(partial(simulated, few, change, view="bilateral"))
        yield f"simulated, one, {name}", of(partial(simulated, few, change, view="single"))
    for kind in ("both", "single", "crop", "none", "beside another view"):
        yield f"composites, {kind}", of(partial(composites, val, 2 * count, kind))
    if chen is not None:
        yield "Chen val, as stored", of(partial(crops_as_they_are, chen))


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what prepare made of Chen's folder")
    parser.add_argument("--chen", type=Path, help="that folder: its val crops as they are stored")
    parser.add_argument("--stack", default="compact", help="the stack whose localiser is measured")
    parser.add_argument("--films", type=int, default=200, help="films a row, about")
    parser.add_argument("--rows", default="", metavar="TEXT", help="only the rows whose name has this in it")
    parser.add_argument("--json", type=Path, help="where the table goes as JSON too")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[logging.StreamHandler()])
    with open_network(Stack.load(arguments.stack), "localiser") as runner:
        localiser = KneeLocaliser(runner.run, size=SIZE)
        table: dict[str, dict[str, object]] = {}
        log.info(
            "%-28s films knees found%% side%% as-is <5mm%% median  p95 cut extra implants inversion%%", ""
        )
        for name, measured in rows(localiser, arguments.data, arguments.chen, arguments.films):
            if arguments.rows not in name:
                continue
            row = measured()
            table[name] = vars(row)
            log.info(
                "%-28s %5d %5d %6.2f %5.1f %5d %5.1f %6s %5s %3d %5d %4d/%d+%d %9.2f",
                *(name, row.films, row.knees, 100 * row.found / max(1, row.knees)),
                *(
                    100 * row.side_right / max(1, row.found),
                    row.as_it_is,
                    100 * row.close / max(1, row.found - row.as_it_is),
                ),
                *(row.median_mm, row.p95_mm, row.cut_off, row.extra),
                *(row.implants_refused, row.implants, row.implants_supposed),
                100 * row.inversion_right / max(1, row.films),
            )
        for name, counted in counts(localiser, val_knees(arguments.data), arguments.films):
            if arguments.rows not in name:
                continue
            count = counted()
            table[name] = vars(count)
            log.info("%-34s %s", name, count.words())
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
