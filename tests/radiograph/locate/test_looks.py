"""The second look: a spot is a knee if it is one from close by, at the same place and as wide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kneerisk.radiograph.locate.crop import window
from kneerisk.radiograph.locate.looks import look_again
from kneerisk.radiograph.locate.peaks import Found, Maps

SIZE, CELLS = 256, 64
FILM = np.random.default_rng(0).random((400, 600)).astype(np.float32)
PEAK = Found(x=300.0, y=200.0, width=100.0, score=0.3, p_right=0.9)


class Close:
    """Sees one peak in each window: its scores call by call, off the middle and as wide as told."""

    def __init__(self, *scores: float, off: tuple[float, float] = (0.0, 0.0), width: float = 100.0) -> None:
        self.scores, self.off, self.width = list(scores), off, width
        self.windows: list[np.ndarray] = []

    def __call__(self, inputs: Maps) -> Maps:
        (square,) = inputs["radiograph"]
        widths = 2.0 if not self.windows else 2.8
        self.windows.append(square[0])
        pixel = widths * PEAK.width / SIZE  # of the radiograph, a pixel of the window
        grid = (np.arange(CELLS) + 0.5) * SIZE / CELLS - 0.5
        x, y = ((SIZE - 1) / 2 + step / pixel for step in self.off)
        peak = np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * 6.0**2))
        centres = np.zeros((1, 2, CELLS, CELLS), np.float32)
        centres[0, 0] = peak / peak.max() * self.scores[len(self.windows) - 1]
        share = self.width / pixel / SIZE
        return {
            "centres": centres,
            "width": np.full((1, 1, CELLS, CELLS), share, np.float32),
            "inverted": np.zeros(1, np.float32),
        }


def judge(close: Close, peak: Found = PEAK):  # type: ignore[no-untyped-def]
    (judged,) = look_again(close, SIZE, FILM, [peak])
    return judged


@pytest.mark.parametrize(
    ("scores", "taken"), [((0.5, 0.34), True), ((0.5, 0.26), False), ((0.1, 0.75), True)]
)
def test_the_mean_of_both_looks_decides(scores: tuple[float, float], taken: bool) -> None:
    judged = judge(Close(*scores))
    assert judged.accepted is taken and judged.first_score == 0.3
    assert judged.knee.score == pytest.approx(np.mean(scores), abs=1e-6)
    assert (judged.knee.x, judged.knee.y, judged.knee.width) == (PEAK.x, PEAK.y, PEAK.width)


def test_a_first_look_that_decides_alone_is_the_only_one() -> None:
    sure, unsure = Close(0.81, 0.0), Close(0.79, 0.0)
    assert judge(sure).accepted and len(sure.windows) == 1
    assert not judge(unsure).accepted and len(unsure.windows) == 2


@pytest.mark.parametrize(
    ("off", "taken"), [((8.0, 0.0), True), ((13.0, 0.0), False), ((0.0, -13.0), False), ((0.0, 8.0), True)]
)
def test_what_moves_from_close_by_is_no_knee(off: tuple[float, float], taken: bool) -> None:
    assert judge(Close(0.95, off=off)).accepted is taken


@pytest.mark.parametrize(("width", "taken"), [(70.0, False), (80.0, True), (130.0, True), (140.0, False)])
def test_what_is_of_another_width_from_close_by_is_no_knee(width: float, taken: bool) -> None:
    assert judge(Close(0.95, width=width)).accepted is taken


def test_a_left_knee_is_shown_mirrored_and_answered_as_it_lies() -> None:
    right, left = Close(0.95), Close(0.95)
    mirrored = Found(599 - PEAK.x, PEAK.y, PEAK.width, PEAK.score, 1 - PEAK.p_right)
    a = judge(right)
    (b,) = look_again(left, SIZE, np.ascontiguousarray(FILM[:, ::-1]), [mirrored])
    np.testing.assert_allclose(right.windows[0], left.windows[0], atol=1e-6)
    assert a.p_right_close == pytest.approx(1 - b.p_right_close) and a.p_right_close > 0.9


def test_no_peaks_need_no_network() -> None:
    assert look_again(Close(), SIZE, FILM, []) == []


class TestWindow:
    def test_the_border_fills_what_lies_beyond(self) -> None:
        square, scale = window(FILM, (5.0, 200.0), 50.0, most=1000)
        assert square.shape == (50, 50) and scale == 1
        np.testing.assert_array_equal(square[:, 30:], FILM[176:226, 10:30])
        np.testing.assert_array_equal(square[:, :20], np.repeat(FILM[176:226, :1], 20, axis=1))

    @pytest.mark.parametrize("middle", [(300.0, 200.0), (45.0, 350.0)])
    def test_a_large_one_is_shrunk_first_and_its_middle_stays(self, middle: tuple[float, float]) -> None:
        film = np.zeros((400, 600), np.float32)
        film[int(middle[1]) - 4 : int(middle[1]) + 5, max(0, int(middle[0]) - 4) : int(middle[0]) + 5] = 1
        square, scale = window(film, middle, 2000.0, most=500)
        assert square.shape == (500, 500) and scale == 4
        rows, columns = np.nonzero(square > 0.5)
        assert abs(rows.mean() - 249.5) < 1.5 and abs(columns.mean() - 249.5) < 1.5

    def test_a_knee_much_larger_than_its_film_takes_no_memory(self) -> None:
        square, _ = window(FILM, (300.0, 200.0), 1e6, most=512)
        assert square.shape == (512, 512)


@pytest.mark.parametrize(
    ("score", "side", "told"), [(0.45, 140, 0.45), (0.45, 160, 0.25), (0.39, 140, 0.39), (0.2, 140, 0.25)]
)
def test_a_radiograph_of_one_knee_alone_was_a_close_look(score: float, side: int, told: float) -> None:
    """A joint of 100 pixels on 140: its windows hold little but filled border."""
    peak = replace(PEAK, score=score, x=side / 2, y=side / 2)
    (judged,) = look_again(Close(0.3, 0.2), SIZE, FILM[:side, :side], [peak])
    assert judged.knee.score == pytest.approx(told)
    assert judged.accepted is (told >= 0.4)


@pytest.mark.parametrize(
    ("score", "side", "looks"),
    [(0.81, 140, 0), (0.79, 140, 1), (0.41, 140, 1), (0.39, 140, 2), (0.81, 160, 2)],
)
def test_a_sure_one_is_not_looked_at_again_and_a_knee_only_once(score: float, side: int, looks: int) -> None:
    close = Close(0.3, 0.2)
    peak = replace(PEAK, score=score, x=side / 2, y=side / 2)
    (judged,) = look_again(close, SIZE, FILM[:side, :side], [peak])
    assert len(close.windows) == looks and judged.accepted is (side == 140 and score > 0.4)


@pytest.mark.parametrize(("off", "taken"), [((8.0, 0.0), True), ((13.0, 0.0), False)])
def test_a_radiograph_of_one_knee_alone_still_has_to_look_the_same_from_close_by(
    off: tuple[float, float], taken: bool
) -> None:
    close = Close(0.3, off=off)
    (judged,) = look_again(close, SIZE, FILM[:140, :140], [replace(PEAK, score=0.7, x=70.0, y=70.0)])
    assert judged.accepted is taken and len(close.windows) == 1
