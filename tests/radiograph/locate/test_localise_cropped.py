"""Images that are one knee's crop already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kneerisk.radiograph import flags
from kneerisk.radiograph.locate.crop import (
    CROP_SIZE,
    JOINT_IN_CROP,
    WIDTH_IN_CROP,
    cut_knee,
    letterbox,
    whole_as_knee,
)
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.radiograph.locate.peaks import Found, Maps, RunLocaliser, peaks_of
from kneerisk.radiograph.locate.recognise import is_cropped_knee, side_from_name
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal


def image(shape: tuple[int, int] = (224, 224), spacing: tuple[float, float] | None = None) -> Radiograph:
    pixels = np.linspace(0, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return Radiograph(RadiographRef(Path("9000099L.png"), "9000099L.png"), pixels, "ab12", spacing)


def knee_filling(shape: tuple[int, int], share: float = WIDTH_IN_CROP, shift: float = 0.0) -> Found:
    height, width = shape
    x, y = JOINT_IN_CROP[0] * width + shift * width, JOINT_IN_CROP[1] * height
    return Found(x, y, share * width, score=0.9, p_right=0.99)


@pytest.mark.parametrize(
    ("shape", "spacing", "share", "shift", "expected"),
    [
        ((224, 224), None, WIDTH_IN_CROP, 0.0, True),
        ((300, 260), None, WIDTH_IN_CROP, 0.0, True),
        ((224, 224), (0.43, 0.44), WIDTH_IN_CROP, 0.0, True),
        ((700, 700), (0.14, 0.14), 0.8, 0.0, True),
        ((224, 224), (1.2, 1.2), WIDTH_IN_CROP, 0.0, False),
        ((224, 400), None, WIDTH_IN_CROP, 0.0, False),
        ((224, 224), None, 0.4, 0.0, False),
        ((224, 224), None, WIDTH_IN_CROP, 0.3, False),
    ],
)
def test_a_crop_is_one_knee_that_fills_a_square(
    shape: tuple[int, int], spacing: tuple[float, float] | None, share: float, shift: float, expected: bool
) -> None:
    assert is_cropped_knee(image(shape, spacing), [knee_filling(shape, share, shift)]) is expected


def test_two_knees_are_no_crop() -> None:
    assert not is_cropped_knee(image(), [knee_filling((224, 224)), knee_filling((224, 224))])


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("val/3/9000099L.png", "L"),
        ("9000099R.png", "R"),
        ("p12_R.dcm", "R"),
        ("knee-L-00m.tif", "L"),
        ("left knee.jpg", "L"),
        ("P01_right_12m.png", "R"),
        ("rt_knee.png", "R"),
        ("9000099R", "R"),
        ("FINAL.png", None),
        ("PILLAR.dcm", None),
        ("left_right.png", None),
        ("001", None),
        ("L/9000099.png", None),
    ],
)
def test_side_from_a_name(name: str, side: str | None) -> None:
    assert side_from_name(name) == side


def sees_a_left_knee(score: float, close: float = 0.9) -> RunLocaliser:
    """A network that sees a left knee in the middle, and a right one in the mirror image shown beside.

    From close by, where one image is shown alone in the right-knee frame, it is a knee of a score ``close``.
    """

    def run(inputs: Maps) -> Maps:
        if len(inputs["radiograph"]) == 1:
            centres = np.zeros((1, 2, 64, 64), np.float32)
            centres[0, 0, 31:33, 31:33] = close
            width = np.full((1, 1, 64, 64), 0.5, np.float32)
            return {"centres": centres, "width": width, "inverted": np.zeros(1, np.float32)}
        centres = np.zeros((2, 2, 64, 64), np.float32)
        centres[0, 1, 36, 32] = centres[1, 0, 36, 31] = score
        width = np.full((2, 1, 64, 64), WIDTH_IN_CROP, np.float32)
        return {"centres": centres, "width": width, "implant": 0 * width, "inverted": np.zeros(2, np.float32)}

    return run


def test_a_crop_is_scored_as_it_is_and_a_left_one_mirrored() -> None:
    seen = image()

    (crop,) = KneeLocaliser(sees_a_left_knee(0.9)).localise(seen)
    assert isinstance(crop, KneeCrop)
    assert crop.side == "L" and {flags.CROPPED_INPUT, flags.SIDE_FROM_NAME} == set(crop.qc_flags)
    np.testing.assert_array_equal(crop.pixels, seen.pixels[:, ::-1])
    np.testing.assert_allclose(crop.to_source @ [0, 7, 1], [223, 7])


def test_a_larger_crop_is_squeezed_and_its_map_leads_back() -> None:
    ramp = np.tile(np.arange(448, dtype=np.float32), (336, 1)) / 448
    cut = whole_as_knee(ramp, mirror=False)
    assert cut.pixels.shape == (CROP_SIZE, CROP_SIZE)
    x, y = cut.to_source @ np.array([10.0, 20.0, 1.0])
    assert cut.pixels[20, 10] == pytest.approx(x / 448, abs=1e-5)
    assert y == pytest.approx(20.5 * 1.5 - 0.5)


def test_a_crop_beyond_the_radiograph_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside the radiograph"):
        cut_knee(np.zeros((50, 50), np.float32), (400.0, 400.0), (60.0, 60.0), mirror=False)


@pytest.mark.parametrize("shape", [(512, 300), (100, 333), (256, 256), (64, 700)])
def test_letterbox_keeps_places_and_ranks(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.random(shape).astype(np.float32)
    square, to_source = letterbox(pixels, 256)
    again, _ = letterbox(pixels * 0.3 + 0.1, 256)
    np.testing.assert_allclose(square, again, atol=2e-3)
    corner = to_source @ np.array([(256 - 1) / 2, (256 - 1) / 2, 1.0])
    np.testing.assert_allclose(corner, [(shape[1] - 1) / 2, (shape[0] - 1) / 2], atol=1.01 * max(shape) / 256)


def test_peaks_are_found_between_cells_and_apart() -> None:
    grid = np.arange(64, dtype=np.float32)
    true_x, true_y = 20.3, 40.8
    peak = np.exp(-((grid[None] - true_x) ** 2 + (grid[:, None] - true_y) ** 2) / (2 * 1.5**2))
    centres = np.stack([0.8 * peak, 0.1 * peak])[None].astype(np.float32)
    width = np.full((1, 1, 64, 64), 0.25, np.float32)
    maps = {"centres": centres, "width": width, "implant": 0 * width, "inverted": np.zeros(1, np.float32)}
    (knee,) = peaks_of(maps, np.eye(2, 3, dtype=np.float32), 256)
    assert (knee.x, knee.y) == pytest.approx(((true_x + 0.5) * 4 - 0.5, (true_y + 0.5) * 4 - 0.5), abs=0.01)
    assert (
        knee.width == pytest.approx(64)
        and knee.looks == "R"
        and knee.surety == pytest.approx(8 / 9, abs=1e-3)
    )


@pytest.mark.parametrize("blank", [0.0, 1.0])
def test_blank_margins_are_not_seen_but_places_stay(blank: float) -> None:
    film = np.random.default_rng(0).random((300, 400)).astype(np.float32)
    padded = np.full((500, 700), blank, np.float32)
    padded[120:420, 50:450] = film
    bare, to_bare = letterbox(film, 256)
    seen, to_padded = letterbox(padded, 256)
    np.testing.assert_array_equal(seen, bare)
    np.testing.assert_allclose(to_padded[:, 2] - to_bare[:, 2], (50, 120), atol=1e-3)


@pytest.mark.parametrize(("close", "taken"), [(0.45, True), (0.35, False)])
def test_a_crop_with_a_faint_knee_counts_only_if_it_is_one_from_close_by(close: float, taken: bool) -> None:
    (result,) = KneeLocaliser(sees_a_left_knee(0.3, close)).localise(image())
    assert isinstance(result, KneeCrop if taken else Refusal)
    if taken:
        assert flags.FAINT_KNEE in result.qc_flags
