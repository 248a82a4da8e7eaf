"""A picture of which something was lost is refused, by what its decoder passes over; a sound one never is."""

from __future__ import annotations

import io
import logging
import threading
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from kneerisk.errors import Reason
from kneerisk.radiograph.decode.read import read
from kneerisk.radiograph.whole import jpeg2000
from kneerisk.radiograph.whole.jpeg import loss_in_8_bits, loss_in_lossless, loss_in_words
from kneerisk.radiograph.whole.jpeg2000 import decode_jpeg2000
from kneerisk.radiograph.whole.seams import has_seam
from kneerisk.records import Radiograph, RadiographRef, Refusal


@pytest.fixture
def grey() -> np.ndarray:
    """[160, 130] uint16, 12 bits: big enough for a damage to have something behind it."""
    rows, columns = np.mgrid[:160, :130]
    noise = np.random.default_rng(1).normal(0, 40, rows.shape)
    return np.clip(1900 + 1400 * np.sin(rows / 37) * np.cos(columns / 31) + noise, 0, 4095).astype(np.uint16)


def with_hole(stream: bytes, at: float, size: int = 400) -> bytes:
    """The stream without some bytes of its data."""
    place = int(len(stream) * at)
    return stream[:place] + stream[place + size :]


PREDICTORS = range(1, 8)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_bits_of_a_lossless_picture_are_those_of_its_stream(grey, predictor, bits):
    pixels = (grey >> 4).astype(np.uint8) if bits == 8 else grey << (bits - 12)
    stream = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits))
    assert loss_in_lossless(stream, imagecodecs.jpeg8_decode(stream)) is None
    harmed = with_hole(stream, 0.5)
    words = loss_in_lossless(harmed, imagecodecs.jpeg8_decode(harmed))
    assert words is not None


def test_a_difference_of_half_the_range_has_no_extra_bits():
    """Category 16, the widest, stands for 32,768 alone."""
    pixels = np.zeros((4, 6), np.uint16)
    pixels[:, ::2] = 32768
    stream = bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=16))
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(stream), pixels)
    assert loss_in_lossless(stream, pixels) is None
    pixels[3, 3] = 5
    assert loss_in_lossless(stream, pixels) is not None


def test_a_stream_by_another_encoder_is_counted_too(grey):
    stream = bytes(imagecodecs.ljpeg_encode(grey, bitspersample=12))
    assert loss_in_lossless(stream, grey) is None
    assert loss_in_lossless(stream, grey[::-1].copy()) is not None


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        ("Corrupt JPEG data: 3 extraneous bytes before marker 0xd9\n", True),
        ("Corrupt JPEG data: premature end of data segment", True),
        ("Unsupported JPEG data precision 12\nCorrupt JPEG data: bad Huffman code", True),
        ("Corrupt JPEG data: found marker 0xd5 instead of RST3", True),
        ("Premature end of JPEG file", True),
        ("Corrupt JPEG data: 2 extraneous bytes before marker 0xdb", False),  # between a header's segments
        ("Unsupported JPEG data precision 12", False),
        ("Warning: unknown JFIF revision number 4.01", False),
    ],
)
def test_which_words_of_libjpeg_mean_a_loss(said, lost):
    assert (loss_in_words(said) is not None) == lost


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}], ids=str)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_lost_bytes_is_heard(grey, options, mode):
    out = io.BytesIO()
    Image.fromarray((grey >> 4).astype(np.uint8)).convert(mode).save(out, "JPEG", quality=92, **options)
    samples = len(mode)
    assert loss_in_8_bits(out.getvalue(), samples) is None
    assert loss_in_8_bits(with_hole(out.getvalue(), 0.3), samples) is not None


FRAMES = [
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
]


@pytest.mark.parametrize("syntax", FRAMES, ids=lambda syntax: syntax.keyword)
def test_a_dicom_file_that_lost_bytes_is_refused(write_dicom, encoded, grey, syntax):
    pixels = (grey >> 4).astype(np.uint8) if syntax == uid.JPEGBaseline8Bit else grey
    stream = encoded(pixels, syntax, 12)
    sound = read(RadiographRef(write_dicom(pixels=pixels, syntax=syntax), "a"))
    assert isinstance(sound, Radiograph)
    assert sound.qc_flags == ()
    found = read(RadiographRef(write_dicom(pixels=pixels, syntax=syntax, frame=with_hole(stream, 0.6)), "a"))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.DICOM_DAMAGED
    assert "lost" in found.message


@pytest.mark.parametrize("how", ["8 bits", "lossless"])
def test_a_jpeg_file_that_lost_bytes_is_refused(tmp_path, grey, how):
    if how == "lossless":
        stream = bytes(imagecodecs.jpeg8_encode((grey >> 4).astype(np.uint8), lossless=True, bitspersample=8))
    else:
        stream = bytes(imagecodecs.jpeg8_encode((grey >> 4).astype(np.uint8), level=90))
    path = tmp_path / "a.jpg"
    path.write_bytes(stream)
    assert isinstance(read(RadiographRef(path, "a")), Radiograph)
    path.write_bytes(with_hole(stream, 0.6))
    found = read(RadiographRef(path, "a"))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.IMAGE_DAMAGED
    assert "lost" in found.message


def layered(grey: np.ndarray) -> bytes:
    """A JPEG 2000 file in quality layers, whose blocks rate control cuts where it likes."""
    out = io.BytesIO()
    picture = Image.fromarray((grey >> 4).astype(np.uint8))
    picture.save(out, "JPEG2000", quality_mode="rates", quality_layers=[40, 20, 10], irreversible=True)
    return out.getvalue()


def test_jpeg_2000_is_read_as_it_is_and_its_losses_are_heard(grey):
    bare = bytes(imagecodecs.jpeg2k_encode(grey, level=46, bitspersample=12))
    for stream, first, size in ((bare, 1200, 100), (layered(grey), 600, 600)):
        pixels, loss = decode_jpeg2000(stream)
        np.testing.assert_array_equal(pixels, imagecodecs.jpeg2k_decode(stream))
        assert loss is None
        harmed = bytearray(stream)
        harmed[first : first + size] = bytes(size)
        assert decode_jpeg2000(bytes(harmed))[1] is not None


def test_some_left_over_bytes_are_no_loss():
    def left(count: int) -> str | None:
        return jpeg2000._loss_in([f"JPEG2K warning: PTERM check failure: {count} remaining bytes"])

    assert left(32) is None
    assert left(33) is not None
    assert jpeg2000._loss_in(["JPEG2K warning: Unknown marker"]) is None
    assert jpeg2000._loss_in(["JPEG2K warning: read: segment too long (9) with max (2)"]) is not None


def test_what_other_threads_log_is_theirs(caplog):
    log = logging.getLogger("imagecodecs")
    with jpeg2000._ear.listening() as said:
        other = threading.Thread(target=lambda: log.warning("another's"))
        other.start()
        other.join()
        log.warning("mine")
    log.warning("later")
    assert said == ["mine"]
    assert [record.getMessage() for record in caplog.records] == ["another's", "later"]


def test_a_program_that_wants_errors_alone_does_not_deafen_us(grey, caplog):
    harmed = bytearray(imagecodecs.jpeg2k_encode(grey, level=46, bitspersample=12))
    harmed[1200:1300] = bytes(100)
    with caplog.at_level(logging.ERROR):
        assert decode_jpeg2000(bytes(harmed))[1] is not None


def test_blocks_that_end_elsewhere_are_decoded_unchanged(grey):
    """Of a high-throughput stream, whose blocks have other ends."""
    stream = bytes(imagecodecs.htj2k_encode(grey, reversible=True))
    assert jpeg2000._checked(stream) == stream
    np.testing.assert_array_equal(decode_jpeg2000(stream)[0], grey)
    assert jpeg2000._checked(b"no stream") == b"no stream"
    assert jpeg2000._checked(b"\xff\x4f\xff\x51\0\0") == b"\xff\x4f\xff\x51\0\0"


def test_examples_have_lost_nothing():
    files = sorted((Path(__file__).parents[2] / "examples" / "cohort").glob("*/*L.*"))
    assert files
    for path in files[:4]:
        assert isinstance(read(RadiographRef(path, path.name)), Radiograph)


def stepped(pixels: np.ndarray, by: int, row: int = 9, column: int = 5) -> np.ndarray:
    """As a wrong mean of one block leaves a picture: all blocks behind it are moved by one amount."""
    found = pixels.astype(np.int32)
    found[8 * row : 8 * row + 8, 8 * column :] += by
    found[8 * row + 8 :] += by
    return np.clip(found, 0, 4095).astype(np.uint16)


@pytest.mark.parametrize("column", [0, 5, 15])
@pytest.mark.parametrize("by", [-300, 300])
def test_a_step_of_brightness_behind_one_block_is_seen(grey, by, column):
    assert not has_seam(grey)
    assert has_seam(stepped(grey, by, column=column))


def test_other_steps_are_none_of_a_jpeg(grey):
    assert not has_seam(stepped(grey, 40)), "too small to tell"
    smooth = np.add.outer(np.arange(160), np.arange(160)).astype(np.uint16) * 12
    assert has_seam(stepped(smooth, 120)) and not has_seam(stepped(smooth, 50)), "a fiftieth of the greys"
    border = grey.copy()
    border[72:] = 0
    assert not has_seam(border), "of a collimator: as high as the picture is bright"
    half = grey.copy()
    half[72:, :60] += 300
    assert not has_seam(half), "not across the picture"
    assert not has_seam(grey[:40, :40])
    rough = np.random.default_rng(0).integers(0, 4096, grey.shape).astype(np.uint16)
    assert not has_seam(stepped(rough, 300)), "lost in the picture's own steps"


def test_the_step_is_a_flag_of_the_row(tmp_path, write_dicom, grey):
    harmed = (stepped(grey, 600) >> 4).astype(np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(imagecodecs.jpeg8_encode(harmed, level=98))
    for at in (path, write_dicom(pixels=harmed, syntax=uid.JPEGBaseline8Bit)):
        found = read(RadiographRef(at, "a"))
        assert isinstance(found, Radiograph)
        assert found.qc_flags == ("brightness-step",)
    plain = read(RadiographRef(write_dicom(pixels=harmed), "a"))
    assert isinstance(plain, Radiograph)
    assert plain.qc_flags == (), "it was never in blocks"
