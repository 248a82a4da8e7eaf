"""One file in, one radiograph or one refusal out."""

from __future__ import annotations

import os
import warnings
import zlib

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.read import read
from kneerisk.records import Radiograph, RadiographRef, Refusal


def ref_of(path, **known):
    return RadiographRef(path=path, source_path=path.name, **known)


def opened(path, **options):
    result = read(ref_of(path), **options)
    assert isinstance(result, Radiograph), result
    return result


def refused(path, **options):
    result = read(ref_of(path), **options)
    assert isinstance(result, Refusal), result
    assert len(result.message) > 20
    return result


def ranks(pixels):
    return np.unique(pixels, return_inverse=True)[1]


def test_a_radiograph_is_bright_where_stored_bright_and_loses_nothing(write_dicom, picture):
    radiograph = opened(write_dicom(ImagerPixelSpacing=[0.2, 0.2], ImageLaterality="R"))
    assert radiograph.pixels.dtype == np.float32
    assert radiograph.pixels.min() == 0 and radiograph.pixels.max() == 1
    np.testing.assert_array_equal(ranks(radiograph.pixels), ranks(picture))
    assert radiograph.spacing_mm == (0.2, 0.2)
    assert radiograph.spacing_source == "ImagerPixelSpacing"
    assert radiograph.side == "R"
    assert radiograph.header_participant_id == "P001"
    assert len(radiograph.input_sha256) == 64
    assert radiograph.qc_flags == ()
    assert "Must" not in repr(radiograph)


def test_a_window_cuts_nothing_off(write_dicom):
    plain = opened(write_dicom())
    windowed = opened(write_dicom("w.dcm", WindowCenter=2000, WindowWidth=50))
    np.testing.assert_array_equal(plain.pixels, windowed.pixels)


def test_the_same_picture_by_every_polarity(write_dicom, picture):
    expected = opened(write_dicom()).pixels
    turned = opened(write_dicom("m1.dcm", pixels=4095 - picture, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(turned.pixels, expected)
    slope = opened(
        write_dicom("slope.dcm", pixels=4095 - picture, RescaleSlope="-1", RescaleIntercept="4095")
    )
    np.testing.assert_array_equal(slope.pixels, expected)
    option = opened(write_dicom("o.dcm", pixels=4095 - picture), invert="yes")
    np.testing.assert_array_equal(option.pixels, expected)
    assert option.qc_flags == (flags.INVERTED_BY_OPTION,)


def test_a_negative_that_says_nothing_of_it_turned_is_the_positive_to_the_last_bit(write_dicom):
    """As the localiser turns it; flat margins then have one grey, and so one rank."""
    film = np.full((96, 80), 40, np.uint8)
    film[:6] = 0
    film[20:80, 20:70] = np.random.default_rng(3).integers(20, 230, (60, 50))
    positive = opened(write_dicom(pixels=film, BitsStored=8)).pixels
    negative = opened(write_dicom("n.dcm", pixels=255 - film, BitsStored=8)).pixels
    np.testing.assert_array_equal(1 - negative, positive)


def test_a_tiff_of_floats_is_that_of_their_whole_numbers(tmp_path, picture):
    tifffile.imwrite(tmp_path / "whole.tif", picture)
    expected = opened(tmp_path / "whole.tif").pixels
    for offset, name in ((0, "floats.tif"), (-700, "below.tif")):
        tifffile.imwrite(tmp_path / name, picture.astype(np.float32) + offset)
        np.testing.assert_array_equal(opened(tmp_path / name).pixels, expected)
    tifffile.imwrite(tmp_path / "shares.tif", (picture / 4095).astype(np.float32))
    shares = opened(tmp_path / "shares.tif").pixels
    np.testing.assert_array_equal(ranks(shares), ranks(expected))
    np.testing.assert_allclose(shares, expected, atol=1e-4)


def test_a_falling_voi_lut_turns_the_scale(write_dicom, picture):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = np.arange(4095, -1, -1, dtype="<u2").tobytes()
    path = write_dicom("lut.dcm", pixels=4095 - picture, VOILUTSequence=[table])
    radiograph = opened(path)
    np.testing.assert_allclose(radiograph.pixels, opened(write_dicom()).pixels, atol=1e-3)
    assert flags.VOI_LUT_INVERTS in radiograph.qc_flags


def test_presentation_lut_shape_never_turns_the_scale_twice(write_dicom, picture):
    fine = opened(write_dicom(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"))
    assert fine.qc_flags == ()
    odd = opened(write_dicom("odd.dcm", PresentationLUTShape="INVERSE"))
    assert odd.qc_flags == (flags.POLARITY_CONFLICT,)
    np.testing.assert_array_equal(odd.pixels, opened(write_dicom("plain.dcm")).pixels)


def test_padding_is_dark_and_leaves_the_range_alone(write_dicom, picture):
    framed = picture.copy()
    framed[:20] = 0
    framed[20:] = np.maximum(framed[20:], 900)
    radiograph = opened(write_dicom(pixels=framed, PixelPaddingValue=0))
    assert (radiograph.pixels[:20] == 0).all()
    assert np.quantile(radiograph.pixels[20:], 0.02) < 0.1
    inverse = opened(
        write_dicom("m1.dcm", pixels=framed, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1")
    )
    assert (inverse.pixels[:20] == 0).all()


def test_palette_and_colour_captures_become_gray(write_dicom, picture):
    index = (picture >> 4).astype(np.uint8)
    ramp = (np.arange(256) * 257).astype("<u2").tobytes()
    palette = {}
    for colour in ("Red", "Green", "Blue"):
        palette[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{colour}PaletteColorLookupTableData"] = ramp
    grey = opened(write_dicom("p.dcm", pixels=index, PhotometricInterpretation="PALETTE COLOR", **palette))
    expected = opened(write_dicom("g.dcm", pixels=index))
    np.testing.assert_allclose(grey.pixels, expected.pixels, atol=0.01)
    assert flags.COLOUR_IMAGE in grey.qc_flags
    rgb = opened(write_dicom("rgb.dcm", pixels=np.repeat(index[..., None], 3, axis=2), Modality="OT"))
    np.testing.assert_allclose(rgb.pixels, expected.pixels, atol=0.01)


def heat_map(grey):
    """One picture's greys as rainbow colours."""
    return cv2.applyColorMap((grey >> 4).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]


def test_true_colours_are_refused_and_a_tint_or_a_coloured_mark_is_not(write_dicom, tmp_path, picture):
    captured = write_dicom("c.dcm", pixels=np.ascontiguousarray(heat_map(picture)), Modality="OT")
    assert refused(captured).reason == Reason.WRONG_MODALITY
    for suffix in ("png", "jpg", "tif"):
        path = tmp_path / f"heat.{suffix}"
        path.write_bytes(cv2.imencode(f".{suffix}", heat_map(picture))[1].tobytes())
        assert refused(path).reason == Reason.WRONG_MODALITY
    grey = (picture >> 4).astype(np.float32)
    tinted = np.stack([grey * 0.75, grey * 0.9, grey], axis=-1).astype(np.uint8)
    marked = tinted.copy()
    marked[4:10, 4:12] = (255, 0, 0)
    for name, pixels in (("tint.png", tinted), ("mark.png", marked), ("tint.jpg", tinted)):
        path = tmp_path / name
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
        assert flags.COLOUR_IMAGE in opened(path).qc_flags


@pytest.mark.parametrize(
    ("elements", "spacing", "source", "found"),
    [
        ({"ImagerPixelSpacing": [0.15, 0.15], "PixelSpacing": [0.14, 0.14]}, 0.15, "ImagerPixelSpacing", ()),
        ({"PixelSpacing": [0.14, 0.14]}, 0.14, "PixelSpacing", ()),
        ({"NominalScannedPixelSpacing": [0.17, 0.17]}, 0.17, "NominalScannedPixelSpacing", ()),
        ({}, None, "unknown", ()),
        ({"PixelSpacing": ["NaN", "NaN"]}, None, "unknown", (flags.SPACING_INVALID,)),
        ({"PixelSpacing": ["0.0", "0.0"]}, None, "unknown", (flags.SPACING_INVALID,)),
        ({"PixelSpacing": ["-0.1", "-0.1"]}, None, "unknown", (flags.SPACING_INVALID,)),
        ({"PixelSpacing": ["140", "140"]}, None, "unknown", (flags.SPACING_INVALID,)),
        ({"PixelSpacing": ["0.14"]}, None, "unknown", (flags.SPACING_INVALID,)),
        ({"PixelSpacing": ["0.1", "0.9"]}, None, "unknown", (flags.SPACING_INVALID,)),
        (
            {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
            *(0.2, "PixelSpacing", (flags.SPACING_OF_PATIENT,)),
        ),
        (
            {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}
            | {"EstimatedRadiographicMagnificationFactor": 1.1},
            *(0.22, "PixelSpacing*magnification", ()),
        ),
        (
            {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"}
            | {"DistanceSourceToDetector": 1500, "DistanceSourceToPatient": 1200},
            *(0.25, "PixelSpacing*magnification", ()),
        ),
        (
            {"ImagerPixelSpacing": [0.26, 0.26], "PixelSpacing": [0.2, 0.2]}
            | {"PixelSpacingCalibrationType": "GEOMETRY", "EstimatedRadiographicMagnificationFactor": 1.3},
            *(0.26, "ImagerPixelSpacing", ()),
        ),
        (
            {"PixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.1},
            *(0.2, "PixelSpacing", ()),
        ),
        (
            {"ImagerPixelSpacing": ["0.0", "0.0"], "PixelSpacing": [0.14, 0.14]},
            *(0.14, "PixelSpacing", (flags.SPACING_INVALID,)),
        ),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.14, 0.14]},
            *(0.2, "ImagerPixelSpacing", (flags.SPACING_CONFLICT,)),
        ),
    ],
)
def test_spacing_by_the_header(write_dicom, elements, spacing, source, found):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns the writer of these values too
        path = write_dicom(**elements)
    radiograph = opened(path)
    assert radiograph.spacing_mm == (None if spacing is None else pytest.approx((spacing, spacing)))
    assert radiograph.spacing_source == source
    assert radiograph.qc_flags == found


def test_the_manifest_s_spacing_goes_before_the_option_s_before_the_header_s(write_dicom):
    path = write_dicom(PixelSpacing=[0.14, 0.14])
    assert opened(path, spacing_mm=0.142).spacing_mm == (0.142, 0.142)
    assert opened(path, spacing_mm=0.142).qc_flags == ()
    assert opened(path, spacing_mm=0.2).qc_flags == (flags.SPACING_OVERRIDE,)
    manifest = read(ref_of(path, spacing_mm=0.3), spacing_mm=0.2)
    assert isinstance(manifest, Radiograph)
    assert (manifest.spacing_mm, manifest.spacing_source) == ((0.3, 0.3), "manifest")


@pytest.mark.parametrize(
    ("elements", "side", "found"),
    [
        ({"ImageLaterality": "L"}, "L", ()),
        ({"Laterality": "R"}, "R", ()),
        ({"ImageLaterality": "B"}, "both", ()),
        ({"ImageLaterality": "U"}, None, ()),
        ({"ImageLaterality": "LEFT"}, "L", ()),
        ({"SeriesDescription": "Knee, r/o fracture"}, None, ()),
        ({"ProtocolName": "Knee grid R2"}, None, ()),
        ({"SeriesDescription": "Bilateral PA Fixed Flexion Knee"}, "both", ()),
        ({"SeriesDescription": "LEFT KNEE AP"}, "L", ()),
        ({"ProtocolName": "Knee rt. 30 deg"}, "R", ()),
        ({"BodyPartExamined": "LKNEE"}, "L", ()),
        ({"SeriesDescription": "KNEE R/L STANDING"}, "both", ()),
        ({"ImageLaterality": "L", "SeriesDescription": "RIGHT KNEE"}, "L", (flags.SIDE_CONFLICT,)),
    ],
)
def test_side_by_the_header(write_dicom, elements, side, found):
    radiograph = opened(write_dicom(**elements))
    assert radiograph.side == side
    assert radiograph.qc_flags == found


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, Reason.WRONG_MODALITY),
        ({"Modality": "SR"}, Reason.WRONG_MODALITY),
        ({"BodyPartExamined": "CHEST"}, Reason.WRONG_BODY_PART),
        ({"BodyPartExamined": "HIP"}, Reason.WRONG_BODY_PART),
        ({"SeriesDescription": "Pelvis AP"}, Reason.WRONG_BODY_PART),
        ({"SeriesDescription": "Feet AP"}, Reason.WRONG_BODY_PART),
        ({"ViewPosition": "LATERAL"}, Reason.WRONG_VIEW),
        ({"ViewPosition": "LL"}, Reason.WRONG_VIEW),
        ({"SeriesDescription": "KNEE LAT R"}, Reason.WRONG_VIEW),
        ({"SeriesDescription": "Sunrise view"}, Reason.WRONG_VIEW),
        ({"SeriesDescription": "Patella, Merchant"}, Reason.WRONG_VIEW),
        ({"ViewPosition": "LL", "SeriesDescription": "Knee ap/lat"}, Reason.WRONG_VIEW),
        ({"NumberOfFrames": "30"}, Reason.MULTI_FRAME),
        ({"Rows": 0}, Reason.IMAGE_TOO_SMALL),
        ({"Rows": 1, "Columns": 1}, Reason.IMAGE_TOO_SMALL),
        ({"Rows": 65535, "Columns": 65535}, Reason.NOT_AN_IMAGE),
        ({"PixelData": None}, Reason.NO_PIXELS),
        ({"Rows": 97}, Reason.DICOM_DAMAGED),
        ({"BitsAllocated": 77}, Reason.DICOM_DAMAGED),
    ],
)
def test_what_a_header_rules_out(write_dicom, elements, reason):
    path = write_dicom(**{k: v for k, v in elements.items() if v is not None})
    if "PixelData" in elements:
        ds = pydicom.dcmread(path)
        del ds.PixelData
        ds.save_as(path)
    refusal = refused(path)
    assert refusal.reason == reason
    assert refusal.participant_id == "P001"
    assert refusal.sop_instance_uid is not None


@pytest.mark.parametrize(
    ("elements", "found"),
    [
        ({"BodyPartExamined": "LOWER EXTREMITY"}, ()),
        ({"BodyPartExamined": "EXTREMITY", "SeriesDescription": "Laterality set by operator"}, ()),
        ({"BodyPartExamined": "CHEST", "SeriesDescription": "Knee PA"}, (flags.BODY_PART_CONFLICT,)),
        ({"BodyPartExamined": "KNEE", "SeriesDescription": "AP feet together"}, ()),
        ({"BodyPartExamined": "KNEE", "SeriesDescription": "heel on block"}, ()),
        ({"BodyPartExamined": "KNEE", "SeriesDescription": "debout, de face"}, ()),
        ({"BodyPartExamined": "KNEE", "SeriesDescription": "Pelvis"}, (flags.BODY_PART_CONFLICT,)),
        ({"SeriesDescription": "Knee A.P./lat"}, (flags.VIEW_AMBIGUOUS,)),
        ({"SeriesDescription": "Knee AP/LAT"}, (flags.VIEW_AMBIGUOUS,)),
        ({"SeriesDescription": "Hip knee ankle, stitched"}, (flags.LONG_LEG,)),
        ({"SeriesDescription": "Knee after TKR"}, (flags.IMPLANT_MENTIONED,)),
        ({"ViewPosition": "RAO"}, (flags.VIEW_OBLIQUE,)),
        ({"Modality": None}, (flags.MODALITY_UNKNOWN,)),
        ({"StudyDescription": "XR knee AP and lateral"}, ()),
    ],
)
def test_what_a_header_only_flags(write_dicom, elements, found):
    assert opened(write_dicom(**elements)).qc_flags == found


def test_bad_files_cost_their_own_row_and_say_what_to_do(tmp_path, write_dicom, picture):
    whole = write_dicom().read_bytes()
    png = imagecodecs.png_encode(picture)
    jpeg = imagecodecs.jpeg8_encode((picture >> 4).astype(np.uint8))
    tiff = cv2.imencode(".tif", picture)[1].tobytes()
    black = imagecodecs.png_encode(np.zeros((90, 90), np.uint8))
    table = {
        "cut.dcm": (whole[: len(whole) * 2 // 3], Reason.DICOM_DAMAGED),
        "head.dcm": (whole[:200], Reason.NO_PIXELS),
        "cut.png": (png[: len(png) // 2], Reason.IMAGE_DAMAGED),
        "cut.jpg": (jpeg[: len(jpeg) // 2], Reason.IMAGE_DAMAGED),
        "cut.tif": (tiff[: len(tiff) // 2], Reason.IMAGE_DAMAGED),
        "empty.png": (b"", Reason.IMAGE_DAMAGED),
        "words.dcm": (b"just some words", Reason.NOT_AN_IMAGE),
        "one.png": (imagecodecs.png_encode(np.ones((1, 1), np.uint8)), Reason.IMAGE_TOO_SMALL),
        "black.png": (black, Reason.BLANK_IMAGE),
        "film.mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 99, Reason.NOT_AN_IMAGE),
    }
    for name, (data, reason) in table.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert refused(path).reason == reason, name
    assert refused(write_dicom("b.dcm", pixels=picture * 0)).reason == Reason.BLANK_IMAGE
    assert refused(write_dicom("v", syntax=uid.MPEG4HP41, frame=b"\0" * 64)).reason == Reason.MULTI_FRAME
    unread = write_dicom("j", syntax=uid.UID("1.2.840.10008.1.2.4.94"), frame=b"\0" * 64)
    assert refused(unread).reason == Reason.DECODER_MISSING
    assert refused(tmp_path / "absent.dcm").reason == Reason.FILE_UNREADABLE
    assert refused(tmp_path).reason == Reason.NOT_AN_IMAGE


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_unreadable(write_dicom):
    path = write_dicom()
    path.chmod(0)
    assert refused(path).reason == Reason.FILE_UNREADABLE


def test_dicom_without_its_preamble_is_read(write_dicom):
    expected = opened(write_dicom()).pixels
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
        bare = write_dicom(f"bare {syntax.keyword}", syntax=syntax, preamble=False)
        np.testing.assert_array_equal(opened(bare).pixels, expected)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_pictures_of_8_and_16_bits(tmp_path, picture, suffix):
    path = tmp_path / f"knee é.{suffix}"
    pixels = (picture >> 4).astype(np.uint8) if suffix == "jpg" else picture
    path.write_bytes(cv2.imencode(f".{suffix}", pixels)[1].tobytes())
    radiograph = opened(path)
    assert np.corrcoef(radiograph.pixels.ravel(), picture.ravel())[0, 1] > 0.995
    assert radiograph.spacing_source == "unknown"
    colour = np.repeat((picture >> 4).astype(np.uint8)[..., None], 3, axis=2)
    path.write_bytes(cv2.imencode(f".{suffix}", colour)[1].tobytes())
    assert flags.COLOUR_IMAGE in opened(path).qc_flags


def test_a_tiff_of_several_pages_is_refused(tmp_path, picture):
    path = tmp_path / "pages.tif"
    path.write_bytes(cv2.imencodemulti(".tif", [picture, picture])[1].tobytes())
    assert refused(path).reason == Reason.MULTI_FRAME


def test_a_tiff_says_which_way_is_white_and_its_thumbnail_is_no_page(tmp_path, picture):
    path = tmp_path / "film.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(picture[::4, ::4], photometric="miniswhite", subfiletype=1)
        file.write(picture, photometric="miniswhite")
    turned = opened(path).pixels
    tifffile.imwrite(path, picture, photometric="minisblack")
    shown = opened(path).pixels
    np.testing.assert_allclose(turned, 1 - shown, atol=1e-6)
    assert np.corrcoef(shown.ravel(), picture.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("harm", [lambda png: png[:-12], lambda png: png[:200] + b"x" + png[201:]])
def test_a_damaged_png_never_reaches_its_decoder(tmp_path, picture, monkeypatch, harm):
    reached = []
    monkeypatch.setattr(imagecodecs, "png_decode", reached.append)
    (tmp_path / "harmed.png").write_bytes(harm(imagecodecs.png_encode(picture)))
    assert refused(tmp_path / "harmed.png").reason == Reason.IMAGE_DAMAGED
    assert reached == []


def test_a_picture_that_claims_too_much_is_refused_before_it_is_unpacked(tmp_path, picture):
    huge = (10_000).to_bytes(4, "big") * 2
    png = imagecodecs.png_encode(picture)
    head = png[12:16] + huge + png[24:29]
    (tmp_path / "huge.png").write_bytes(png[:12] + head + zlib.crc32(head).to_bytes(4, "big") + png[33:])
    tifffile.imwrite(tmp_path / "huge.tif", picture)
    with tifffile.TiffFile(tmp_path / "huge.tif", mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(10_000)
    for suffix in ("png", "tif"):
        refusal = refused(tmp_path / f"huge.{suffix}")
        assert refusal.reason == Reason.NOT_AN_IMAGE
        assert "10000 × 10000" in refusal.message


bad_bytes = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@bad_bytes
@given(
    start=st.sampled_from(
        [b"", b"\0" * 128 + b"DICM", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*"]
    ),
    rest=st.binary(max_size=400),
)
def test_no_bytes_at_all_raise(tmp_path, start, rest):
    path = tmp_path / "any"
    path.write_bytes(start + rest)
    assert isinstance(read(ref_of(path)), (Refusal, Radiograph))


@bad_bytes
@given(data=st.data())
def test_no_damage_to_a_real_file_raises(tmp_path, write_dicom, picture, data):
    syntaxes = (uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless)
    syntax = data.draw(st.sampled_from(syntaxes))
    path = write_dicom(f"d{syntax.keyword}", syntax=syntax)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(132, min(len(whole), 1500) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(140, len(whole)))]))
    result = read(ref_of(path))
    if isinstance(result, Radiograph):
        assert np.isfinite(result.pixels).all()
        assert result.pixels.min() >= 0 and result.pixels.max() <= 1


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), scale=st.integers(1, 15))
def test_monochrome1_of_the_negative_is_monochrome2(write_dicom, seed, scale):
    pixels = (np.random.default_rng(seed).integers(0, 270, (64, 64)) * scale).astype(np.uint16)
    positive = opened(write_dicom("2.dcm", pixels=pixels))
    negative = opened(write_dicom("1.dcm", pixels=4095 - pixels, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(ranks(positive.pixels), ranks(negative.pixels))


def test_a_jpeg_ends_at_its_end_mark_whatever_follows(tmp_path, picture):
    whole = imagecodecs.jpeg8_encode((picture >> 4).astype(np.uint8), level=97)
    thumbnail = b"\xff\xe1\x00\x0b Exif\xff\xd8\xff\xd9"
    (tmp_path / "a.jpg").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole + b"TRAILER." * 1250)
    (tmp_path / "c.jpg").write_bytes(whole[:2] + thumbnail + whole[2:-900])
    np.testing.assert_array_equal(opened(tmp_path / "a.jpg").pixels, opened(tmp_path / "b.jpg").pixels)
    assert "cut short" in refused(tmp_path / "c.jpg").message


def test_a_tiff_in_planes_is_the_one_in_pixels(tmp_path, picture):
    colour = np.dstack([picture >> 4, picture >> 5, picture >> 6]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "b.tif",
        np.ascontiguousarray(colour.transpose(2, 0, 1)),
        photometric="rgb",
        planarconfig="separate",
    )
    np.testing.assert_array_equal(opened(tmp_path / "a.tif").pixels, opened(tmp_path / "b.tif").pixels)


@pytest.mark.parametrize(
    "missing", ["Rows", "BitsStored", "PhotometricInterpretation", "PixelRepresentation"]
)
def test_a_missing_element_is_named(write_dicom, missing):
    path = write_dicom()
    ds = pydicom.dcmread(path)
    delattr(ds, missing)
    ds.save_as(path)
    refusal = refused(path)
    assert refusal.reason == Reason.DICOM_DAMAGED
    assert f"lacks {missing}," in refusal.message


@pytest.mark.parametrize(
    ("first", "count", "slope", "intercept"), [(-1024, 4096, 1, -1024), (20000, 16381, 4, 20000)]
)
def test_a_voi_lut_is_looked_up_with_rescaled_values(write_dicom, picture, first, count, slope, intercept):
    table = Dataset()
    table.add_new(0x00283002, "US", [count, first % 65536, 12])
    table.LUTData = np.linspace(4095, 0, count).round().astype("<u2").tobytes()
    rescale = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    found = opened(write_dicom("l.dcm", pixels=4095 - picture, VOILUTSequence=[table], **rescale))
    assert flags.VOI_LUT_INVERTS in found.qc_flags
    np.testing.assert_allclose(found.pixels, opened(write_dicom()).pixels, atol=1e-3)


def test_a_voi_lut_counts_where_the_rescaled_pixels_are(write_dicom, picture):
    table = Dataset()
    table.LUTDescriptor = [16381, 0, 16]
    rising, falling = np.arange(2000, 6000), np.linspace(3000, 0, 12381)
    table.LUTData = np.concatenate([rising, falling]).astype("<u2").tobytes()
    found = opened(write_dicom(VOILUTSequence=[table], RescaleSlope=4, RescaleIntercept=0))
    assert found.qc_flags == (flags.VOI_LUT_INVERTS,)


@pytest.mark.parametrize(
    ("declared", "written", "id", "found"),
    [
        (None, "患者-12".encode(), "患者-12", (flags.ID_ENCODING,)),
        (None, b"M\xfcller12", "Müller12", (flags.ID_ENCODING,)),
        (None, b"plain-012", "plain-012", ()),
        ("ISO_IR 192", "患者-12".encode(), "患者-12", ()),
        ("ISO_IR 100", b"M\xfcller12", "Müller12", ()),
        ("ISO_IR 100", "Иванов-".encode()[:9], None, (flags.ID_ENCODING,)),
    ],
)
def test_an_id_is_as_written_or_flagged(write_dicom, declared, written, id, found):
    holder = "X" * len(written)
    elements = {} if declared is None else {"SpecificCharacterSet": declared}
    path = write_dicom(PatientID=holder, **elements)
    path.write_bytes(path.read_bytes().replace(holder.encode(), written))
    radiograph = opened(path)
    assert radiograph.qc_flags == found
    assert id is None or radiograph.header_participant_id == id
