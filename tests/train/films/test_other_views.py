"""Films of other views and close-ups: no knee is invented, none is lost, and what is held out stays out."""

from __future__ import annotations

import numpy as np
import pytest
from kneerisk_train.films import other_views
from kneerisk_train.films.films import Film, close_up
from kneerisk_train.films.other_views import HELD_OUT, other_film, with_panel

from kneerisk.simulate.other_views import PARTS


def dotted(x: int, y: int) -> Film:
    """A knee's film with a bright spot where the joint's middle lies, on a slope of grey."""
    pixels = np.tile(np.linspace(0, 0.4, 300, dtype=np.float32), (240, 1))
    pixels[y - 2 : y + 3, x - 2 : x + 3] = 1.0
    return Film(pixels, [(float(x), float(y), 60.0, 1, False)])


@pytest.mark.parametrize("size", [256, 32])  # smaller than the window: it is shrunk
def test_a_close_up_keeps_the_knee_where_it_shows(size: int) -> None:
    for seed, x, y in ((0, 150, 120), (1, 20, 30), (2, 290, 230)):
        seen = close_up(dotted(x, y), np.random.default_rng(seed), size)
        ((at_x, at_y, width, side, _),) = seen.knees
        rows, columns = np.nonzero(seen.pixels > 0.6)
        assert np.allclose((columns.mean(), rows.mean()), (at_x, at_y), atol=1)
        assert 1.7 <= len(seen.pixels) / width <= 3.3 and len(seen.pixels) <= 2 * size and side == 1


def test_a_panel_moves_the_knee_only_where_it_comes_first() -> None:
    shifts = set()
    for seed in range(4):
        film = with_panel(dotted(150, 120), np.random.default_rng(seed))
        x, y = (round(at) for at in film.knees[0][:2])
        assert film.pixels[y, x] == 1.0 and film.pixels.shape[0] == 240 and film.pixels.shape[1] > 310
        shifts.add(x > 150)
    assert shifts == {True, False}


def test_other_views_are_of_seeds_and_parts_that_nothing_is_measured_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def draw(seed: int, part: str) -> np.ndarray:
        drawn.append((seed, part))
        return np.zeros((40, 40), np.float32)

    monkeypatch.setattr(other_views, "simulate_other_view", draw)
    assert not any(other_film(np.random.default_rng(seed)).knees for seed in range(60))
    assert {part for _, part in drawn} == {*PARTS} - {*HELD_OUT} and HELD_OUT
    assert min(seed for seed, _ in drawn) >= 1_000_000
