"""Metal drawn on simulated knees is told from bone, and a replaced joint from screws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from kneerisk.radiograph.locate.crop import CROP_SIZE, WIDTH_IN_CROP, cut_knee
from kneerisk.radiograph.locate.metal import Metal, metal_of
from kneerisk.simulate.implant import HARDWARE, JOINTS, draw_metal, joint_frame
from kneerisk.simulate.radiograph import simulate_radiograph

SEEDS = range(8)


@cache
def film(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in 0..1 and landmarks of one simulated right knee."""
    shown = simulate_radiograph(seed, view="single", side="R", spacing_mm=0.43)
    return shown.pixels.astype(np.float32) / (2**shown.look.bits - 1), shown.knees[0].landmarks


def crop(seed: int, kind: str | None = None) -> np.ndarray:
    pixels, landmarks = film(seed)
    if kind is not None:
        rng = np.random.default_rng(seed)
        pixels = draw_metal(pixels, (JOINTS | HARDWARE)[kind](rng), joint_frame(landmarks), rng)
    x, y = landmarks.mean(axis=0)
    field = float(np.ptp(landmarks[:, 0])) / WIDTH_IN_CROP
    return cut_knee(pixels, (float(x), float(y)), (field, field), mirror=False).pixels


def test_bone_is_no_metal() -> None:
    assert not any(metal_of(crop(seed)).seen for seed in SEEDS)


@pytest.mark.parametrize(("kind", "least"), [("total", 8), ("stemmed", 7), ("partial", 6)])
def test_a_replaced_joint_has_metal_on_either_side(kind: str, least: int) -> None:
    found = [metal_of(crop(seed, kind)) for seed in SEEDS]
    assert sum(metal.replaced for metal in found) >= least
    assert all(metal.seen for metal in found)


@pytest.mark.parametrize("kind", ["plate", "screws"])
def test_most_hardware_is_seen(kind: str) -> None:
    assert sum(metal_of(crop(seed, kind)).seen for seed in SEEDS) >= 6


def test_a_plate_on_one_bone_is_no_replaced_joint() -> None:
    assert sum(metal_of(crop(seed, "plate")).replaced for seed in SEEDS) <= 1


def plain(bars: tuple[slice, ...], soft: float = 0.0) -> Metal:
    """Bright bars on an even grey; soft ones fade over ``soft`` pixels, as clipped bone does."""
    pixels = np.full((CROP_SIZE, CROP_SIZE), 0.3, np.float32)
    rows = np.arange(CROP_SIZE)
    for bar in bars:
        away = np.maximum(np.maximum(bar.start - rows, rows - bar.stop + 1), 0)
        shown = np.clip(1 - away / soft, 0, 1) if soft else (away == 0).astype(np.float32)
        pixels[:, 30:190] = np.maximum(pixels[:, 30:190], 0.3 + 0.6 * shown[:, None])
    pixels[5:12, 5:29] = 0.94  # a marker is brighter
    return metal_of(pixels.astype(np.float32))


ABOVE, BELOW, FAR = slice(95, 103), slice(150, 158), slice(200, 208)


def test_metal_must_lie_above_and_below_the_joint_and_near_it() -> None:
    assert plain((ABOVE, BELOW)).replaced
    for bars in ((ABOVE,), (BELOW,), (ABOVE, FAR)):
        assert plain(bars).seen and not plain(bars).replaced


@pytest.mark.parametrize("clipped", [0.4, 0.1])
def test_overexposed_bone_is_no_metal(clipped: float) -> None:
    found = []
    for seed in SEEDS:
        pixels = crop(seed) ** 0.4
        found.append(metal_of(np.minimum(pixels, np.quantile(pixels, 1 - clipped)).astype(np.float32)))
    assert not any(metal.replaced for metal in found)
    # The outline alone would have taken some for metal: only its share of the boundary tells.
    assert clipped < 0.4 or sum(metal.astride >= 0.25 for metal in found) >= 2


def with_margins(pixels: np.ndarray, sides: str, *, depth: int = 24, tilt: float = 0.08) -> np.ndarray:
    """White bands along the sides named by t, b, l and r, as collimation leaves them, a little askew."""
    shown = pixels.copy()
    for turns in (turns for turns, name in enumerate("trbl") if name in sides):
        rows, columns = np.indices(shown.shape)
        view = np.rot90(shown, turns)  # a view: what is set in it is set in the crop
        view[rows < depth + tilt * columns] = shown.max()
    return shown


@pytest.mark.parametrize("sides", ["l", "r", "lr", "t", "b", "tlr", "blr"])
@pytest.mark.parametrize(("depth", "tilt"), [(24, 0.08), (6, 0.02), (-70, 0.5), (42, -0.5)])
def test_a_white_margin_is_no_metal(sides: str, depth: int, tilt: float) -> None:
    for seed in SEEDS[:2]:
        metal = metal_of(with_margins(crop(seed), sides, depth=depth, tilt=tilt))
        assert metal.outline < 0.2 and metal.edge < 0.25


@pytest.mark.parametrize("sides", ["lr", "tb"])
def test_a_replaced_joint_is_seen_beside_white_margins(sides: str) -> None:
    found = [metal_of(with_margins(crop(seed, "stemmed"), sides)) for seed in SEEDS]
    assert sum(metal.replaced for metal in found) >= 6


def test_a_bright_band_that_fills_no_corner_is_no_margin() -> None:
    pixels = np.full((CROP_SIZE, CROP_SIZE), 0.3, np.float32)
    pixels[:103, 50:180] = pixels[150:, 50:180] = 0.9  # metal of either bone, up to the border
    assert metal_of(pixels).replaced
    pixels[:, 50:] = np.where(pixels[:, 50:] > 0.5, 0.3, pixels[:, 50:])
    pixels[:40], pixels[-40:] = 0.9, 0.9  # the same brightness from corner to corner
    assert not metal_of(pixels).seen


def test_an_edge_that_fades_is_no_metal() -> None:
    assert plain((ABOVE, BELOW), soft=10.0).outline < 0.3 * plain((ABOVE, BELOW)).outline


def test_on_a_clipped_film_the_outline_counts_half() -> None:
    noise = 0.001 * np.random.default_rng(0).random((CROP_SIZE, CROP_SIZE)).astype(np.float32)

    def bar(bottom: int) -> Metal:
        pixels = 0.3 + noise
        pixels[20:bottom, 30:190] += 0.6
        return metal_of(pixels)

    usual, clipped = bar(40), bar(60)  # a sixteenth and an eighth of the crop
    assert usual.edge > 0.25 and clipped.edge == 0
    assert clipped.outline == pytest.approx(usual.outline / 2, rel=0.15)


@pytest.mark.parametrize(
    ("bounded", "clipped", "replaced"),
    [(0.3, False, False), (0.36, False, True), (0.36, True, False), (0.46, True, True)],
)
def test_where_bone_is_clipped_more_must_be_bounded(bounded: float, clipped: bool, replaced: bool) -> None:
    assert Metal(0.9, 0.3, bounded, 0.0, clipped).replaced is replaced


def test_one_grey_has_no_metal() -> None:
    assert metal_of(np.zeros((CROP_SIZE, CROP_SIZE), np.float32)) == Metal(0.0, 0.0, 0.0, 0.0, clipped=False)
