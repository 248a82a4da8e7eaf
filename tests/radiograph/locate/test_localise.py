"""From a radiograph to crops and refusals, with a stand-in for the network that sees what it is told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.locate.crop import CROP_SIZE, FIELD_MM, JOINT_IN_CROP
from kneerisk.radiograph.locate.localise import KneeLocaliser
from kneerisk.radiograph.locate.peaks import Maps
from kneerisk.records import KneeCrop, Radiograph, RadiographRef, Refusal

SIZE, CELLS = 256, 64


class Seer:
    """Stands for the network: gives Gaussian peaks where told, in pixels of the letterboxed image.

    It is shown an image and its mirror image at once; then, in the right-knee frame, what may be knees from
    close by, where it sees a knee in the middle, of the score ``close``.
    """

    def __init__(self, *knees: tuple[float, float, float, str], close: float = 0.9) -> None:
        self.knees, self.close = knees, close
        self.inputs: list[np.ndarray] = []

    def __call__(self, inputs: Maps) -> Maps:
        both = inputs["radiograph"]
        assert both.shape[1:] == (1, SIZE, SIZE) and both.dtype == np.float32
        if len(both) != 2 or not np.array_equal(both[1], both[0, :, :, ::-1]):
            return self.from_close_by(len(both))
        self.inputs += [both[0, 0], both[1, 0]]
        straight = self.maps(both[:1])
        turned = mirrored(straight)
        return {name: np.concatenate([maps, turned[name]]) for name, maps in straight.items()}

    def maps(self, square: np.ndarray) -> dict[str, np.ndarray]:
        stride = SIZE / CELLS
        grid = (np.arange(CELLS, dtype=np.float32) + 0.5) * stride - 0.5
        centres = np.zeros((1, 2, CELLS, CELLS), np.float32)
        width = np.full((1, 1, CELLS, CELLS), 0.2, np.float32)
        for x, y, wide, side in self.knees:
            distance = (grid[None] - x) ** 2 + (grid[:, None] - y) ** 2
            peak = np.exp(-distance / (2 * (1.5 * stride) ** 2)).astype(np.float32)
            channel = 0 if side == "R" else 1
            centres[0, channel] = np.maximum(centres[0, channel], peak)
            width[0, 0][peak > 0.3] = wide / SIZE
        return {
            "centres": centres,
            "width": width,
            "inverted": self.inverted(square),
        }

    def from_close_by(self, count: int) -> dict[str, np.ndarray]:
        maps = Seer((127.5, 127.5, SIZE / 2, "R")).maps(np.zeros((1, 1, SIZE, SIZE), np.float32))
        maps["centres"] = maps["centres"] / maps["centres"].max() * self.close
        return {name: np.repeat(array, count, axis=0) for name, array in maps.items()}

    def inverted(self, square: np.ndarray) -> np.ndarray:
        """The tests' radiographs begin with air: bright there where the grey scale is reversed."""
        return np.array([1.0 if square[0, 0, 128, 2] > 0.5 else 0.0], np.float32)


def mirrored(maps: Maps) -> Maps:
    back = {name: array[..., ::-1] if array.ndim == 4 else array for name, array in maps.items()}
    return back | {"centres": back["centres"][:, ::-1]}


def radiograph(
    shape: tuple[int, int] = (512, 512), spacing: float | None = 0.5, name: str = "film.dcm", **more: object
) -> Radiograph:
    """A ramp that falls off to air at its left, so that every pixel tells where it lies."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    pixels = (rows / shape[0] + 2 * columns / shape[1]) / 3
    made = Radiograph(
        RadiographRef(Path(name), name),
        pixels.astype(np.float32),
        input_sha256="ab12",
        spacing_mm=None if spacing is None else (spacing, spacing),
        spacing_source="unknown" if spacing is None else "ImagerPixelSpacing",
    )
    return replace(made, **more)  # type: ignore[arg-type]


BOTH = ((70.0, 120.0, 60.0, "R"), (190.0, 124.0, 60.0, "L"))


def crops(results: list[KneeCrop | Refusal]) -> list[KneeCrop]:
    assert all(isinstance(result, KneeCrop) for result in results), results
    return [result for result in results if isinstance(result, KneeCrop)]


def test_two_knees_come_out_framed_and_named_by_their_place() -> None:
    seen = radiograph()
    right, left = crops(KneeLocaliser(Seer(*BOTH)).localise(seen))
    assert (right.side, left.side) == ("R", "L")
    for crop, (x, y, _, _) in zip((right, left), BOTH, strict=True):
        assert crop.pixels.shape == (CROP_SIZE, CROP_SIZE) and crop.pixels.dtype == np.float32
        share = np.array([*(np.array(JOINT_IN_CROP) * (CROP_SIZE - 1)), 1.0])
        np.testing.assert_allclose(crop.to_source @ share, (2 * x + 0.5, 2 * y + 0.5), atol=1.0)
        across = np.hypot(*(crop.to_source @ [223, 0, 1] - crop.to_source @ [0, 0, 1]))
        assert across * 0.5 * CROP_SIZE / 223 == pytest.approx(FIELD_MM, abs=0.5)


@pytest.mark.parametrize("which", [0, 1])
def test_the_map_back_to_the_source_finds_the_same_pixels(which: int) -> None:
    seen = radiograph(shape=(700, 900))
    crop = crops(KneeLocaliser(Seer(*BOTH)).localise(seen))[which]
    for x, y in [(30, 40), (111, 125), (200, 190)]:
        at = crop.to_source @ np.array([x, y, 1.0])
        column, row = at
        assert crop.pixels[y, x] == pytest.approx((row / 700 + 2 * column / 900) / 3, abs=1e-3)


def test_left_knees_are_mirrored_into_the_right_frame() -> None:
    right, left = crops(KneeLocaliser(Seer(*BOTH)).localise(radiograph()))
    assert right.to_source[0, 0] > 0 > left.to_source[0, 0]
    assert right.pixels[100, 0] < right.pixels[100, -1]
    assert left.pixels[100, 0] > left.pixels[100, -1]


def test_unequal_spacing_keeps_the_field_in_millimetres() -> None:
    seen = radiograph(spacing_mm=(0.4, 0.6))
    crop = crops(KneeLocaliser(Seer(*BOTH)).localise(seen))[0]
    assert crop.to_source[0, 0] * 0.6 == pytest.approx(crop.to_source[1, 1] * 0.4, rel=0.01)


def test_without_spacing_the_joint_sets_the_scale_and_says_so() -> None:
    crop = crops(KneeLocaliser(Seer(*BOTH)).localise(radiograph(spacing=None)))[0]
    assert flags.SCALE_ESTIMATED in crop.qc_flags and crop.spacing_mm is None
    assert crop.to_source[0, 0] * CROP_SIZE == pytest.approx(120 / 0.824, abs=1)


def test_a_spacing_that_makes_a_giant_of_the_knee_is_not_used() -> None:
    crop = crops(KneeLocaliser(Seer(*BOTH)).localise(radiograph(spacing=3.0)))[0]
    assert {flags.SPACING_IMPLAUSIBLE, flags.SCALE_ESTIMATED} <= set(crop.qc_flags)
    assert crop.spacing_mm is None and crop.spacing_source == "unknown"


@pytest.mark.parametrize(
    ("asked", "sides"), [("L", ["L"]), ("R", ["R"]), ("both", ["R", "L"]), (None, ["R", "L"])]
)
def test_the_manifest_or_option_chooses_among_two_knees(asked: str | None, sides: list[str]) -> None:
    localiser = KneeLocaliser(Seer(*BOTH))
    by_option = localiser.localise(radiograph(), side=asked)  # type: ignore[arg-type]
    ref = replace(radiograph().ref, side=asked)  # type: ignore[arg-type]
    by_manifest = localiser.localise(radiograph(ref=ref))
    assert [crop.side for crop in crops(by_option)] == sides
    assert [crop.side for crop in crops(by_manifest)] == sides


ONE = (128.0, 128.0, 60.0, "R")


@pytest.mark.parametrize(
    ("asked", "header", "name", "side", "flag"),
    [
        (None, None, "film.dcm", "R", flags.SIDE_FROM_ANATOMY),
        (None, None, "film_L.png", "L", flags.SIDE_DISAGREES_ANATOMY),
        (None, None, "9000099R.png", "R", flags.SIDE_FROM_NAME),
        (None, "L", "film.dcm", "L", flags.SIDE_DISAGREES_ANATOMY),
        ("R", "L", "film.dcm", "R", flags.SIDE_DISAGREES_HEADER),
        ("L", None, "film.dcm", "L", flags.SIDE_DISAGREES_ANATOMY),
    ],
)
def test_one_knee_gets_its_side_from_the_best_witness(
    asked: str | None, header: str | None, name: str, side: str, flag: str
) -> None:
    seen = radiograph(name=name, side=header)
    (crop,) = crops(KneeLocaliser(Seer(ONE)).localise(seen, side=asked))  # type: ignore[arg-type]
    assert crop.side == side and flag in crop.qc_flags


def test_agreeing_witnesses_leave_no_flag() -> None:
    (crop,) = crops(KneeLocaliser(Seer(ONE)).localise(radiograph(side="R"), side="R"))
    assert crop.qc_flags == ()


def test_a_side_that_header_and_anatomy_deny_is_not_found() -> None:
    (refusal,) = KneeLocaliser(Seer(ONE)).localise(radiograph(side="R"), side="L")
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.SIDE_NOT_FOUND and refusal.side == "L"


@pytest.mark.parametrize(("asked", "header"), [("both", None), (None, "both")])
def test_the_second_knee_that_is_spoken_of_is_missed(asked: str | None, header: str | None) -> None:
    seen = radiograph(side=header)
    crop, refusal = KneeLocaliser(Seer(ONE)).localise(seen, side=asked)  # type: ignore[arg-type]
    assert isinstance(crop, KneeCrop) and crop.side == "R"
    assert isinstance(refusal, Refusal) and (refusal.reason, refusal.side) == (Reason.SIDE_NOT_FOUND, "L")


def test_an_ambiguous_anatomy_alone_names_no_side() -> None:
    (refusal,) = KneeLocaliser(Seer(ONE, (128.0, 128.0, 60.0, "L"))).localise(radiograph())
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.SIDE_UNKNOWN


def test_a_header_of_one_side_on_two_knees_is_flagged() -> None:
    both = crops(KneeLocaliser(Seer(*BOTH)).localise(radiograph(side="R")))
    assert all(flags.SIDE_DISAGREES_HEADER in crop.qc_flags for crop in both)


def test_two_knees_that_look_swapped_are_flagged() -> None:
    swapped = Seer((70.0, 120.0, 60.0, "L"), (190.0, 120.0, 60.0, "R"))
    both = crops(KneeLocaliser(swapped).localise(radiograph()))
    assert [crop.side for crop in both] == ["R", "L"]
    assert all(flags.SIDE_DISAGREES_ANATOMY in crop.qc_flags for crop in both)


def test_no_knee_is_refused_with_what_was_seen() -> None:
    (refusal,) = KneeLocaliser(Seer()).localise(radiograph(sop_instance_uid="1.2.3"))
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.NO_KNEE_FOUND
    assert (
        "0.00" in refusal.message and refusal.sop_instance_uid == "1.2.3" and refusal.input_sha256 == "ab12"
    )


def test_a_lying_knee_is_refused_with_the_turn_it_needs() -> None:
    class LyingSeer(Seer):
        def maps(self, square: np.ndarray) -> dict[str, np.ndarray]:
            lies = square[0, 0, 128, 20] < square[0, 0, 128, 236]
            return (Seer() if lies else Seer(ONE)).maps(square)

    (refusal,) = KneeLocaliser(LyingSeer()).localise(radiograph())
    assert isinstance(refusal, Refusal) and "turn it" in refusal.message


@pytest.mark.parametrize("place", [(14.0, 128.0), (240.0, 128.0), (128.0, 6.0), (128.0, 250.0)])
def test_a_joint_cut_by_the_border_is_refused(place: tuple[float, float]) -> None:
    (refusal,) = KneeLocaliser(Seer((*place, 60.0, "R"))).localise(radiograph(side="R"))
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.KNEE_CUT_OFF and "%" in refusal.message


def test_a_knee_near_the_border_is_flagged_and_filled_with_the_edge() -> None:
    (crop,) = crops(KneeLocaliser(Seer((128.0, 16.0, 60.0, "R"))).localise(radiograph(side="R")))
    assert flags.NEAR_BORDER in crop.qc_flags and np.isfinite(crop.pixels).all()


class TestInversion:
    def test_a_reversed_grey_scale_is_found_and_turned(self) -> None:
        straight = radiograph()
        localiser = KneeLocaliser(Seer(*BOTH))
        expected = crops(localiser.localise(straight))[0]
        turned = crops(localiser.localise(replace(straight, pixels=1 - straight.pixels)))[0]
        assert (
            flags.INVERSION_DETECTED in turned.qc_flags and flags.INVERSION_DETECTED not in expected.qc_flags
        )
        np.testing.assert_allclose(turned.pixels, expected.pixels, atol=1e-6)

    def test_no_means_no(self) -> None:
        straight = radiograph()
        seen = replace(straight, pixels=1 - straight.pixels)
        crop = crops(KneeLocaliser(Seer(*BOTH)).localise(seen, invert="no"))[0]
        assert flags.INVERSION_DETECTED not in crop.qc_flags
        assert crop.pixels[0, 0] > crop.pixels[-1, -1]

    def test_yes_reverses_once_even_if_reading_did(self) -> None:
        straight = radiograph()
        localiser = KneeLocaliser(Seer(*BOTH))
        here = crops(localiser.localise(straight, invert="yes"))[0]
        assert here.pixels[0, 0] > here.pixels[-1, -1]
        read = replace(straight, qc_flags=(flags.INVERTED_BY_OPTION,))
        there = crops(localiser.localise(read, invert="yes"))[0]
        assert there.pixels[0, 0] < there.pixels[-1, -1]
        assert there.qc_flags.count(flags.INVERTED_BY_OPTION) == 1


def test_a_flat_crop_is_flagged() -> None:
    seen = radiograph()
    faint = replace(seen, pixels=(0.5 + 0.02 * seen.pixels).astype(np.float32))
    assert flags.LOW_CONTRAST in crops(KneeLocaliser(Seer(*BOTH)).localise(faint))[0].qc_flags
    shaded = seen.pixels.copy()
    shaded[150:260, 60:220] = 0
    blank = replace(seen, pixels=shaded)
    assert flags.PARTLY_BLANK in crops(KneeLocaliser(Seer(*BOTH)).localise(blank))[0].qc_flags


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 3), (5, 5)])
def test_tiny_or_thin_images_are_no_error(shape: tuple[int, int]) -> None:
    (refusal,) = KneeLocaliser(Seer()).localise(radiograph(shape=shape))
    assert isinstance(refusal, Refusal) and refusal.reason is Reason.NO_KNEE_FOUND


def bone() -> np.ndarray:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.random((512, 512)).astype(np.float32), (0, 0), 6)
    return ((grey - grey.min()) / np.ptp(grey) * 0.7).astype(np.float32)


def test_metal_above_and_below_the_joint_is_refused_and_a_screw_is_flagged() -> None:
    localiser = KneeLocaliser(Seer(ONE))
    (crop,) = crops(localiser.localise(radiograph(side="R", pixels=bone())))
    assert flags.METAL_SEEN not in crop.qc_flags
    replaced = bone()
    replaced[215:245, 210:300] = replaced[268:285, 200:310] = 1.0
    (refusal,) = localiser.localise(radiograph(side="R", pixels=replaced))
    assert isinstance(refusal, Refusal) and (refusal.reason, refusal.side) == (Reason.IMPLANT, "R")
    screws = bone()
    screws[290:297, 200:310] = screws[305:312, 200:310] = 1.0
    (crop,) = crops(localiser.localise(radiograph(side="R", pixels=screws)))
    assert flags.METAL_SEEN in crop.qc_flags


def test_lines_across_both_bones_are_flagged_as_growth_plates() -> None:
    localiser = KneeLocaliser(Seer(ONE))
    lined = bone() * 0.2 + 0.5
    lined[:, :180] = lined[:, 320:] = 0.1
    for row in (225, 285):
        lined[row : row + 3, 195:310] -= 0.25
    for pixels, flagged in ((bone(), False), (lined, True)):
        (crop,) = crops(localiser.localise(radiograph(side="R", pixels=pixels)))
        assert (flags.PLATES_OPEN in crop.qc_flags) == flagged


@pytest.mark.parametrize(("pixels_across", "flagged"), [(59.0, True), (61.0, False)])
def test_a_knee_of_few_pixels_is_flagged(pixels_across: float, flagged: bool) -> None:
    seer = Seer((128.0, 128.0, pixels_across, "R"))  # on a film of twice the network's pixels
    (crop,) = crops(KneeLocaliser(seer).localise(radiograph(side="R")))
    assert (flags.FEW_PIXELS in crop.qc_flags) is flagged


@pytest.mark.parametrize(("spacing", "flagged"), [(0.49, True), (0.51, False), (None, False)])
def test_a_joint_that_is_small_for_a_grown_up_is_flagged(spacing: float | None, flagged: bool) -> None:
    (crop,) = crops(KneeLocaliser(Seer(ONE)).localise(radiograph(side="R", spacing=spacing)))
    assert (flags.SMALL_JOINT in crop.qc_flags) is flagged


def test_of_two_knees_only_the_one_that_looks_like_the_other_side_is_flagged() -> None:
    class TwoRights(Seer):
        def from_close_by(self, count: int) -> dict[str, np.ndarray]:
            assert count == 2
            return super().from_close_by(count)

    two = TwoRights((70.0, 120.0, 60.0, "R"), (190.0, 120.0, 60.0, "R"))
    right, left = crops(KneeLocaliser(two).localise(radiograph()))
    assert flags.SIDE_DISAGREES_ANATOMY not in right.qc_flags
    assert left.side == "L" and flags.SIDE_DISAGREES_ANATOMY in left.qc_flags


class OneOfTwo(Seer):
    """The first peak is a knee from close by, the second is none."""

    def __call__(self, inputs: Maps) -> Maps:
        # On a ramp, two windows are as like as an image and its mirror image: the first look alone is that.
        return self.from_close_by(len(inputs["radiograph"])) if self.inputs else super().__call__(inputs)

    def from_close_by(self, count: int) -> dict[str, np.ndarray]:
        maps = super().from_close_by(count)
        if count == 1:
            maps["centres"] *= 0
        maps["centres"][1:] *= 0
        return maps


@pytest.mark.parametrize(
    ("asked", "header", "reason", "side"),
    [
        (None, None, Reason.NO_KNEE_FOUND, None),
        (None, "both", Reason.SIDE_NOT_FOUND, "L"),
        ("both", None, Reason.SIDE_NOT_FOUND, "L"),
    ],
)
def test_a_second_spot_that_is_no_knee_gets_a_row(
    asked: str | None, header: str | None, reason: Reason, side: str | None
) -> None:
    localiser = KneeLocaliser(OneOfTwo(*BOTH))
    crop, refusal = localiser.localise(radiograph(side=header), side=asked)  # type: ignore[arg-type]
    assert isinstance(crop, KneeCrop) and crop.side == "R"
    assert isinstance(refusal, Refusal) and (refusal.reason, refusal.side) == (reason, side)
    assert "second spot" in refusal.message and "from close by" in refusal.message


def test_a_second_spot_gets_no_row_where_one_side_is_asked_for() -> None:
    (crop,) = crops(KneeLocaliser(OneOfTwo(*BOTH)).localise(radiograph(), side="R"))
    assert crop.side == "R"
