"""Pictures stored mirrored, turned or stretched: seen upright, with a way back to each pixel as stored."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.locate.crop import knee_of, whole_as_knee
from kneerisk.radiograph.upright import ORIENTATIONS, put_upright, spacing_after, spacing_before
from kneerisk.records import Radiograph, RadiographRef

STORE = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a.T, 2),
    8: lambda a: np.rot90(a, -1),
}
"""An upright picture → as a file of that orientation stores it (6: to be turned clockwise when shown)."""
PATIENT = {
    1: ["L", "F"],
    2: ["R", "F"],
    3: ["R", "H"],
    4: ["L", "H"],
    5: ["F", "L"],
    6: ["F", "R"],
    7: ["H", "R"],
    8: ["H", "L"],
}


def opened(path, **known):
    result = read(RadiographRef(path=path, source_path=path.name), **known)
    assert isinstance(result, Radiograph), result
    return result


def stored(picture, orientation):
    return np.ascontiguousarray(STORE[orientation](picture))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_is_undone_and_leads_back(orientation):
    upright = np.arange(35, dtype=np.float32).reshape(5, 7)
    kept = stored(upright, orientation)
    pixels, to_source = put_upright(kept, orientation, 1.0)
    np.testing.assert_array_equal(pixels, upright)
    for y, x in ((0, 0), (1, 5), (4, 6)):
        across, down = (x, y) if to_source is None else to_source @ (x, y, 1)
        assert kept[round(down), round(across)] == upright[y, x]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dicom_says_so_by_patient_orientation(write_dicom, picture, orientation):
    usual = opened(write_dicom("usual.dcm", PatientOrientation=["L", "F"]))
    assert usual.to_source is None and usual.qc_flags == ()
    path = write_dicom("o.dcm", pixels=stored(picture, orientation), PatientOrientation=PATIENT[orientation])
    found = opened(path)
    np.testing.assert_array_equal(found.pixels, usual.pixels)
    assert found.qc_flags == (() if orientation == 1 else (flags.PUT_UPRIGHT,))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_pictures_say_so_by_exif_and_tiff_tags(tmp_path, picture, kind, orientation):
    grey = (picture >> 4).astype(np.uint8)
    path = tmp_path / f"k.{kind}"
    turned = stored(grey, orientation)
    if kind == "tif":
        tifffile.imwrite(path, turned, extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(turned).save(path, exif=exif, quality=98)
    plain = tmp_path / "plain.png"
    plain.write_bytes(imagecodecs.png_encode(grey))
    found = opened(path)
    assert found.pixels.shape == grey.shape
    assert np.corrcoef(found.pixels.ravel(), opened(plain).pixels.ravel())[0, 1] > 0.999
    assert flags.PUT_UPRIGHT in found.qc_flags


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_palette_tiff_is_turned_once(tmp_path, picture, turn):
    grey = (picture >> 4).astype(np.uint8)
    ramp = (np.arange(256) * 257).astype(np.uint16)
    path = tmp_path / "p.tif"
    tifffile.imwrite(
        path,
        stored(grey, turn),
        photometric="palette",
        colormap=np.stack([ramp] * 3),
        extratags=[(274, "H", 1, turn, True)],
    )
    plain = tmp_path / "plain.png"
    plain.write_bytes(imagecodecs.png_encode(grey))
    np.testing.assert_allclose(opened(path).pixels, opened(plain).pixels, atol=0.01)


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientOrientation": ["A", "F"]},
        {"FieldOfViewHorizontalFlip": "YES"},
        {"FieldOfViewRotation": "90"},
    ],
)
def test_an_orientation_that_cannot_be_told_is_flagged(write_dicom, elements):
    assert opened(write_dicom(**elements)).qc_flags == (flags.ORIENTATION_UNCLEAR,)
    told = write_dicom("told.dcm", PatientOrientation=["L", "F"], FieldOfViewHorizontalFlip="YES")
    assert opened(told).qc_flags == ()


@pytest.mark.parametrize("elements", [{"PixelAspectRatio": [2, 1]}, {"ImagerPixelSpacing": [0.4, 0.2]}])
def test_pixels_twice_as_high_as_wide_become_squares(write_dicom, picture, elements):
    found = opened(write_dicom(pixels=np.repeat(picture, 2, axis=1), **elements))
    assert found.pixels.shape == (192, 160)
    whole = opened(write_dicom("whole.dcm", pixels=picture.repeat(2, axis=0).repeat(2, axis=1)))
    assert np.corrcoef(found.pixels.ravel(), whole.pixels.ravel())[0, 1] > 0.95
    assert found.spacing_mm in (None, pytest.approx((0.2, 0.2)))
    np.testing.assert_allclose(found.to_source @ (10, 20.5, 1), (10, 10), atol=1e-5)


def test_pixels_twice_as_wide_as_high_become_squares(write_dicom, picture):
    found = opened(write_dicom(pixels=np.repeat(picture, 2, axis=0), PixelAspectRatio=[1, 2]))
    assert found.pixels.shape == (192, 160)
    np.testing.assert_allclose(found.to_source @ (20.5, 10, 1), (10, 10), atol=1e-5)


def test_a_crop_squeezed_to_a_square_is_looked_at_as_it_is(write_dicom, picture):
    found = opened(write_dicom(pixels=picture, PixelSpacing=[0.48, 0.40]))
    assert found.pixels.shape == picture.shape
    assert found.spacing_mm == pytest.approx((0.48, 0.40))
    assert found.to_source is None


def test_one_spacing_said_of_pixels_that_are_no_squares_is_their_finer_side(write_dicom, picture):
    path = write_dicom(pixels=np.repeat(picture, 2, axis=1), PixelAspectRatio=[2, 1])
    assert opened(path, spacing_mm=0.2).spacing_mm == pytest.approx((0.2, 0.2))


def test_an_aspect_of_no_radiograph_is_flagged(write_dicom):
    found = opened(write_dicom(PixelAspectRatio=[9, 1]))
    assert found.pixels.shape == (96, 80)
    assert found.qc_flags == (flags.ASPECT_INVALID,)


def test_a_tiff_s_resolution_tells_its_pixels_shape(tmp_path, picture):
    path = tmp_path / "fax.tif"
    tifffile.imwrite(path, np.repeat(picture, 2, axis=1), resolution=(200, 100))
    assert opened(path).pixels.shape == (192, 160)


def test_a_knee_leads_back_to_its_pixels_and_spacing_as_stored(write_dicom, picture):
    path = write_dicom(
        pixels=stored(np.repeat(picture, 2, axis=1), 6),
        PatientOrientation=["F", "R"],
        ImagerPixelSpacing=[0.2, 0.4],
    )
    found = opened(path)
    assert found.spacing_mm == pytest.approx((0.2, 0.2))
    knee = knee_of(found, "R", whole_as_knee(found.pixels, mirror=False), ())
    assert knee.spacing_mm == pytest.approx((0.2, 0.4))
    # The upright picture's lower left corner is where the stored one's first row and last column meet.
    np.testing.assert_allclose(knee.to_source @ (-0.5, 223.5, 1), (95.5, 159.5), atol=1e-3)


def test_spacing_goes_through_an_affine_and_back():
    affine = np.array([[0.0, 2.0, 5.0], [-1.0, 0.0, 7.0]])
    assert spacing_before(affine, (0.3, 0.1)) == pytest.approx((0.2, 0.3))
    assert spacing_after(affine, (0.2, 0.3)) == pytest.approx((0.3, 0.1))
