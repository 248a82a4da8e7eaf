"""Every transfer syntax gives back the stored values; damage is an exception and never a gray patch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid

from kneerisk.radiograph import flags
from kneerisk.radiograph.decode import decoders
from kneerisk.radiograph.decode.decoders import StreamSizeError, UnsupportedSyntaxError, VideoError, decode
from kneerisk.radiograph.decode.quiet import Quiet

EXACT = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
]


@pytest.mark.parametrize("syntax", EXACT, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("kind", ["uint8", "uint12", "uint16", "int16"])
def test_lossless_syntaxes_give_the_stored_values(write_dicom, picture, syntax, kind):
    pixels, stored = {
        "uint8": ((picture >> 4).astype(np.uint8), 8),
        "uint12": (picture, 12),
        "uint16": (picture * 16 + 7, 16),
        "int16": (picture.astype(np.int16) * 16 - 32768 // 2, 16),
    }[kind]
    if kind == "int16" and syntax in (uid.JPEG2000, uid.JPEG2000Lossless):
        pixels = pixels.astype(np.int16)
    ds = pydicom.dcmread(write_dicom(pixels=pixels, syntax=syntax, BitsStored=stored))
    decoded, found = decode(ds)
    assert decoded.shape == pixels.shape
    np.testing.assert_array_equal(decoded.astype(int), pixels.astype(int))
    assert found == ()


@pytest.mark.parametrize(
    ("syntax", "tolerance"),
    [(uid.JPEGBaseline8Bit, 6), (uid.JPEGExtended12Bit, 60), (uid.JPEGLSNearLossless, 2)],
    ids=lambda value: getattr(value, "keyword", None),
)
def test_lossy_syntaxes_come_close(write_dicom, picture, syntax, tolerance):
    pixels = (picture >> 4).astype(np.uint8) if syntax == uid.JPEGBaseline8Bit else picture
    decoded, _ = decode(pydicom.dcmread(write_dicom(pixels=pixels, syntax=syntax)))
    assert np.abs(decoded.astype(int) - pixels.astype(int)).max() <= tolerance


def test_signed_values_in_fewer_bits_get_their_sign(write_dicom, picture):
    signed = picture.astype(np.int16) - 2048
    packed = (signed & 0x0FFF).astype(np.int16)  # 12 bits, the sign not carried on
    decoded, _ = decode(pydicom.dcmread(write_dicom(pixels=packed, BitsStored=12)))
    np.testing.assert_array_equal(decoded, signed)


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLosslessSV1],
    ids=lambda syntax: syntax.keyword,
)
def test_values_beyond_a_wrong_bits_stored_are_kept_by_every_decoder(write_dicom, picture, syntax):
    pixels = picture * 16 + 7
    ds = pydicom.dcmread(write_dicom(pixels=pixels, syntax=syntax, BitsStored=16))
    ds.BitsStored, ds.HighBit = 12, 11
    decoded, _ = decode(ds)
    np.testing.assert_array_equal(decoded, pixels)


def test_values_beyond_a_wrong_bits_stored_are_kept(write_dicom, picture):
    decoded, _ = decode(pydicom.dcmread(write_dicom(pixels=picture * 4, BitsStored=12)))
    np.testing.assert_array_equal(decoded, picture * 4)


def test_an_overlay_in_the_spare_bits_is_removed(write_dicom, picture):
    path = write_dicom(pixels=picture | 0x8000, BitsStored=12)
    ds = pydicom.dcmread(path)
    ds.add_new(0x60000102, "US", 15)
    np.testing.assert_array_equal(decode(ds)[0], picture)


def test_a_lossless_stream_under_a_lossy_syntax_is_read(write_dicom, picture):
    import imagecodecs

    frame = imagecodecs.jpeg_encode(picture, lossless=True, predictor=1, bitspersample=12)
    decoded, _ = decode(pydicom.dcmread(write_dicom(syntax=uid.JPEGExtended12Bit, frame=frame)))
    np.testing.assert_array_equal(decoded, picture)


def test_colour_comes_out_as_rgb(write_dicom):
    colour = np.zeros((80, 72, 3), dtype=np.uint8)
    colour[:40, :, 0] = 250
    colour[40:, :, 2] = 250
    for syntax in (uid.ExplicitVRLittleEndian, uid.RLELossless):
        decoded, _ = decode(pydicom.dcmread(write_dicom(pixels=colour, syntax=syntax)))
        np.testing.assert_array_equal(decoded, colour)
    path = write_dicom(pixels=colour, syntax=uid.JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422")
    assert np.abs(decode(pydicom.dcmread(path))[0].astype(int) - colour).mean() < 3


@pytest.mark.parametrize(
    "syntax",
    [uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless],
    ids=lambda syntax: syntax.keyword,
)
def test_a_cut_stream_is_an_error(write_dicom, encoded, picture, syntax):
    pixels = (picture >> 4).astype(np.uint8)
    whole = encoded(pixels, syntax, 8)
    path = write_dicom(pixels=pixels, syntax=syntax, frame=whole[: len(whole) * 2 // 3])
    with Quiet(), pytest.raises(Exception, match=r"\w"):
        decode(pydicom.dcmread(path))


def test_rle_segments_longer_than_the_picture_are_an_error_not_a_panic(write_dicom, encoded, picture):
    frame = bytearray(encoded(picture, uid.RLELossless, 12))
    start = int.from_bytes(frame[8:12], "little")
    frame[start : start + 2] = b"\x81\0"  # a run of 128 where the encoder wrote fewer
    with pytest.raises(RuntimeError, match=r"RLE|decode"):
        decode(pydicom.dcmread(write_dicom(syntax=uid.RLELossless, frame=bytes(frame))))


def test_a_jpeg_that_imagecodecs_cannot_read_goes_to_the_lenient_decoder(write_dicom, picture, monkeypatch):
    import imagecodecs

    path = write_dicom(syntax=uid.JPEGLosslessSV1)

    def fails(*args, **options):
        raise ValueError("not this one")

    monkeypatch.setattr(imagecodecs, "jpeg8_decode", fails)
    decoded, found = decode(pydicom.dcmread(path))
    np.testing.assert_array_equal(decoded, picture)
    assert found == (flags.DECODER_FALLBACK,)


def test_a_stream_of_another_size_is_never_decoded(write_dicom, picture):
    import imagecodecs

    frame = imagecodecs.jpeg_encode(picture[:90], lossless=True, predictor=1, bitspersample=12)
    with pytest.raises(StreamSizeError, match="96 × 80"):
        decode(pydicom.dcmread(write_dicom(syntax=uid.JPEGLosslessSV1, frame=frame)))


def test_video_and_unknown_syntaxes_say_so(write_dicom):
    with pytest.raises(VideoError):
        decode(pydicom.dcmread(write_dicom(syntax=uid.MPEG4HP41, frame=b"\0" * 64)))
    with pytest.raises(UnsupportedSyntaxError, match="JPIP"):
        decode(pydicom.dcmread(write_dicom(syntax=uid.UID("1.2.840.10008.1.2.4.94"), frame=b"\0" * 64)))


def test_pydicom_s_own_files_decode_as_pydicom_decodes_them():
    """The files that come with pydicom: other people's encoders, gray and colour."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    names = (
        *("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"),
        *("MR_small_bigendian.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle_16bit.dcm", "image_dfl.dcm"),
        "J2K_pixelrep_mismatch.dcm",
    )
    for name in names:
        ds = pydicom.dcmread(folder / name)
        with Quiet():
            expected = ds.pixel_array
        np.testing.assert_array_equal(decode(ds)[0], expected, err_msg=name)


def test_threads_that_decode_their_first_files_at_once_lose_none(monkeypatch):
    """pydicom refuses a plug-in that is there: two threads that both see it missing must not both add it."""
    asked = threading.Barrier(2)

    class Decoder:
        def __init__(self):
            self.plugins = []

        @property
        def available_plugins(self):
            seen = tuple(self.plugins)
            with suppress(threading.BrokenBarrierError):  # a thread that comes alone waits for none
                asked.wait(0.3)
            return seen

        def add_plugin(self, label, where):
            if label in self.plugins:
                raise ValueError(f"'Decoder' already has a plugin named '{label}'")
            self.plugins.append(label)

    one = Decoder()
    monkeypatch.setattr("pydicom.pixels.decoders.base.get_decoder", lambda uid: one)
    monkeypatch.setattr(decoders, "DECODER_DEPENDENCIES", {uid.JPEG2000: ()})
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(decoders._plug_in) for _ in range(2)]:
            done.result()
    assert one.plugins == ["kneerisk", "kneerisk-lenient"]


def test_signed_values_beyond_a_wrong_bits_stored_are_kept(write_dicom, picture):
    signed = picture.astype(np.int16) - 2048
    decoded, _ = decode(pydicom.dcmread(write_dicom(pixels=signed, BitsStored=11)))
    np.testing.assert_array_equal(decoded, signed)


@pytest.mark.parametrize("syntax", [uid.JPEG2000Lossless, uid.JPEGBaseline8Bit], ids=lambda s: s.keyword)
def test_the_stream_s_components_go_before_the_header_s(write_dicom, encoded, picture, syntax):
    import imagecodecs

    grey = (picture >> 4).astype(np.uint8)
    colour = np.dstack([grey] * 3)
    if syntax == uid.JPEGBaseline8Bit:
        frames = [(imagecodecs.jpeg8_encode(colour, level=98), 3), (encoded(grey, syntax, 8), 2)]
    else:
        j2k = {"codecformat": "J2K", "level": 0, "reversible": True}
        alpha = np.dstack([colour, np.full_like(grey, 255)])
        frames = [(imagecodecs.jpeg2k_encode(a, **j2k), a.ndim) for a in (colour, alpha)]
        frames.append((encoded(grey, syntax, 8), 2))
    for frame, dimensions in frames:
        for claimed in (grey, colour):
            path = write_dicom(pixels=claimed, syntax=syntax, frame=frame)
            with Quiet():
                decoded, _ = decode(pydicom.dcmread(path))
            assert decoded.ndim == dimensions
            seen = decoded if decoded.ndim == 2 else decoded[..., 1]
            assert np.abs(seen.astype(int) - grey).mean() < 2


def test_plain_colour_labelled_as_one_sample_is_colour(write_dicom, picture):
    colour = np.dstack([picture >> 4, picture >> 5, picture >> 6]).astype(np.uint8)
    path = write_dicom(
        pixels=colour, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", PlanarConfiguration=None
    )
    np.testing.assert_array_equal(decode(pydicom.dcmread(path))[0], colour)
