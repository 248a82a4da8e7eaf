"""The picture of a forecast: nothing but what the forecast changed parts it from its radiograph."""

import numpy as np
import pytest

from kneerisk.method.picture import textured

SIZE = 64
NOWHERE = np.full((16, 2), 30.0, np.float32)


def radiograph(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((SIZE, SIZE), np.float32)


def test_a_forecast_that_is_the_latent_of_now_is_the_radiograph() -> None:
    blurred = np.full((SIZE, SIZE), 0.4, np.float32)
    np.testing.assert_allclose(
        textured(radiograph(), blurred, blurred, NOWHERE, NOWHERE), radiograph(), atol=1e-6
    )


def test_what_the_forecast_changed_is_what_parts_the_two() -> None:
    now = np.full((SIZE, SIZE), 0.5, np.float32)
    later = now.copy()
    later[20:24, 20:40] += 0.25
    seen = now + 0.1 * (radiograph() - 0.5)
    made = textured(seen, now, later, NOWHERE, NOWHERE)
    np.testing.assert_allclose(made - seen, later - now, atol=1e-6)


def test_a_picture_stays_within_its_greys() -> None:
    bright = np.ones((SIZE, SIZE), np.float32)
    made = textured(bright, 0.5 * bright, 0.9 * bright, NOWHERE, NOWHERE)
    assert made.dtype == np.float32 and made.max() == 1
    assert textured(0 * bright, 0.5 * bright, 0.1 * bright, NOWHERE, NOWHERE).min() == 0


@pytest.mark.parametrize("shift", [(6.0, 0.0), (0.0, -6.0)])
def test_the_texture_goes_along_with_the_landmarks(shift: tuple[float, float]) -> None:
    """A bright grain between the landmarks stays between them; far off nothing moves."""
    flat = np.full((SIZE, SIZE), 0.5, np.float32)
    grain, far = flat.copy(), (2, SIZE - 3)
    grain[30, 24], grain[far] = 1.0, 1.0
    around = np.array([(24 + x, 30 + y) for x in (-1, 0, 1, 2) for y in (-1, 0, 1, 2)], np.float32)
    made = textured(grain, flat, flat, around, around + shift)
    near = made.copy()
    near[:8] = 0
    y, x = np.unravel_index(near.argmax(), near.shape)
    assert (x - 24, y - 30) == pytest.approx(shift, abs=1)
    assert made[far] > 0.85
