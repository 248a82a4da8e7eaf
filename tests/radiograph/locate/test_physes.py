"""Open growth plates drawn on simulated knees are told from knees without them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from kneerisk.radiograph.locate.crop import CROP_SIZE, JOINT_IN_CROP, WIDTH_IN_CROP, cut_knee
from kneerisk.radiograph.locate.physes import growth_plates, plates_open
from kneerisk.simulate.radiograph import simulate_radiograph

SEEDS = range(8)
JOINT = JOINT_IN_CROP[1] * (CROP_SIZE - 1)
WIDTH = WIDTH_IN_CROP * CROP_SIZE
ABOVE, BELOW = JOINT - 0.25 * WIDTH, JOINT + 0.2 * WIDTH


@cache
def crop(seed: int) -> np.ndarray:
    """A simulated right knee's crop."""
    shown = simulate_radiograph(seed, view="single", side="R", spacing_mm=0.43)
    (x, y), width = shown.knees[0].landmarks.mean(axis=0), float(np.ptp(shown.knees[0].landmarks[:, 0]))
    field = (width / WIDTH_IN_CROP,) * 2
    pixels = shown.pixels.astype(np.float32) / (2**shown.look.bits - 1)
    return cut_knee(pixels, (float(x), float(y)), field, mirror=False).pixels


def with_lines(pixels: np.ndarray, *rows: float, depth: float = 0.25, bow: float = 5.0) -> np.ndarray:
    """Dark lines across the bones, a bow of so many pixels, as deep as a share of the crop's greys."""
    y, x = np.mgrid[:CROP_SIZE, :CROP_SIZE].astype(np.float32)
    across = (x - JOINT_IN_CROP[0] * (CROP_SIZE - 1)) / (WIDTH / 2)
    shown = pixels.copy()
    for row in rows:
        away = y - row - bow * across**2
        shown -= depth * np.ptp(pixels) * np.exp(-(away**2) / (2 * 1.5**2)) * (np.abs(across) < 0.9)
    return np.clip(shown, 0, 1)


def test_a_grown_up_knee_has_none() -> None:
    assert not any(plates_open(crop(seed)) for seed in SEEDS)


def test_lines_across_both_bones_are_open_plates() -> None:
    assert sum(plates_open(with_lines(crop(seed), ABOVE, BELOW)) for seed in SEEDS) >= 7


@pytest.mark.parametrize("row", [ABOVE, BELOW])
def test_a_line_across_one_bone_is_not(row: float) -> None:
    assert sum(plates_open(with_lines(crop(seed), row)) for seed in SEEDS) <= 1


def test_each_bone_has_a_line_of_its_own() -> None:
    plain = np.full((CROP_SIZE, CROP_SIZE), 0.6, np.float32)
    plain[:, :30] = plain[:, 190:] = 0.1
    for rows, seen in (((ABOVE,), (True, False)), ((BELOW,), (False, True)), ((JOINT,), (False, False))):
        assert tuple(line > 0.05 for line in growth_plates(with_lines(plain, *rows))) == seen
    brighter = with_lines(plain, ABOVE, BELOW, depth=-0.25)
    assert max(growth_plates(brighter)) < 0.05


def test_a_line_is_followed_as_far_as_it_slopes_and_no_steeper() -> None:
    """By a row in two columns of pixels: a physis is a wave, but no saw."""
    y, x = np.mgrid[:CROP_SIZE, :CROP_SIZE].astype(np.float32)

    def dark(slope: float) -> float:
        """A line that rises and falls by so many rows a column, ten rows either way."""
        row = ABOVE + np.abs((slope * x) % 40 - 20) - 10
        plain = 0.6 - 0.25 * np.exp(-((y - row) ** 2) / (2 * 1.5**2))
        plain[:, :30] = plain[:, 190:] = 0.1
        return growth_plates(plain)[0]

    assert dark(0.0) == pytest.approx(dark(0.5), rel=0.1)
    assert dark(0.8) < 0.75 * dark(0.5)


def test_faint_lines_are_not() -> None:
    plain = np.full((CROP_SIZE, CROP_SIZE), 0.6, np.float32)
    plain[:, :30] = plain[:, 190:] = 0.1
    assert plates_open(with_lines(plain, ABOVE, BELOW)) and not plates_open(
        with_lines(plain, ABOVE, BELOW, depth=0.06)
    )


def test_one_grey_has_none() -> None:
    assert growth_plates(np.zeros((CROP_SIZE, CROP_SIZE), np.float32)) == (0.0, 0.0)
