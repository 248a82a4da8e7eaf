"""Drawn metal: what is thick is white, what is thin shines through, and it lies where it should."""

from __future__ import annotations

import numpy as np
import pytest

from kneerisk.simulate.implant import HARDWARE, JOINTS, Part, draw_metal, joint_frame, with_implants
from kneerisk.simulate.radiograph import simulate_radiograph

FRAME = np.array([[100.0, 0, 128], [0, 100.0, 128]])
SQUARE = np.array([(-0.3, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.3, 0.3)])
GREY = np.full((256, 256), 0.4, np.float32)


def drawn(part: Part, white: float | None = 0.9) -> np.ndarray:
    return draw_metal(GREY, [part], FRAME, np.random.default_rng(0), white=white)


def test_thick_metal_is_white_and_thin_metal_shines_through() -> None:
    thick, thin = drawn(Part(SQUARE, 8.0)), drawn(Part(SQUARE, 0.5))
    assert thick[128, 128] == pytest.approx(0.9, abs=0.03)
    expected = 0.4 * np.exp(-0.5) + 0.9 * (1 - np.exp(-0.5))
    assert thin[100:156, 100:156].mean() == pytest.approx(expected, abs=0.01)
    np.testing.assert_array_equal(thick[:80], GREY[:80])


def test_metal_never_darkens_what_is_brighter() -> None:
    assert drawn(Part(SQUARE, 8.0), white=0.2)[100:156, 100:156].mean() == pytest.approx(0.4, abs=0.01)


def test_a_rod_is_thinner_at_its_edge() -> None:
    rod = drawn(Part(SQUARE, 1.0, round_edge=True))
    assert rod[128, 128] > rod[128, 102] + 0.05 > 0.45


@pytest.mark.parametrize("kind", sorted(JOINTS | HARDWARE))
def test_every_kind_brightens_the_knee_and_a_seed_draws_it_again(kind: str) -> None:
    def draw(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return draw_metal(GREY, (JOINTS | HARDWARE)[kind](rng), FRAME, rng, white=0.9)

    first = draw(1)
    np.testing.assert_array_equal(first, draw(1))
    assert not np.array_equal(first, draw(2))
    assert (first - GREY).max() > 0.1 and first.min() >= 0 and first.max() <= 1


@pytest.mark.parametrize("kind", sorted(JOINTS))
def test_a_replaced_joint_has_metal_above_and_below(kind: str) -> None:
    rng = np.random.default_rng(3)
    metal = draw_metal(GREY, JOINTS[kind](rng), FRAME, rng, white=1.0) > 0.8
    assert metal[98:128].any() and metal[134:170].any()


def test_the_joint_frame_lies_on_a_left_knee_too() -> None:
    shown = simulate_radiograph(3, spacing_mm=0.6)
    for knee in shown.knees:
        frame = joint_frame(knee.landmarks)
        np.testing.assert_allclose(frame[:, 2], knee.centre, atol=0.01)
        assert frame[0, 0] > 0 and frame[1, 1] > 0
        width = abs(knee.landmarks[8, 0] - knee.landmarks[0, 0])
        assert np.hypot(*frame[:, 0]) == pytest.approx(width, rel=0.02)


def test_only_the_sides_asked_for_get_an_implant() -> None:
    shown = simulate_radiograph(3, spacing_mm=0.6)
    replaced = with_implants(shown, ("L",))
    changed = np.abs(replaced.pixels.astype(int) - shown.pixels) > 2 ** (shown.look.bits - 4)
    columns = np.flatnonzero(changed.any(axis=0))
    assert len(columns) and columns.min() > shown.pixels.shape[1] / 2
    assert with_implants(shown, ()) is shown
