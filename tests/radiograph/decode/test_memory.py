"""What a file would take in memory is known, and refused, before any decoder gives memory to it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from pydicom import uid

from kneerisk.errors import Reason
from kneerisk.radiograph.decode import dicom
from kneerisk.radiograph.decode.read import read
from kneerisk.records import Radiograph, RadiographRef, Refusal

_GROUP_LENGTH = b"\x02\0\0\0UL\x04\0"


@pytest.fixture
def refused(monkeypatch):
    """Function: a path → its refusal, with every decoder out of reach."""

    def reached(*_args, **_options):
        raise AssertionError("a decoder was reached")

    for name in ("jpeg2k", "jpeg8", "jpegls", "tiff", "png"):
        monkeypatch.setattr(imagecodecs, f"{name}_decode", reached)

    def refuse(path: Path) -> Refusal:
        found = read(RadiographRef(path, path.name))
        assert isinstance(found, Refusal)
        assert "was reached" not in found.message
        return found

    return refuse


def test_a_jpeg_2000_of_16000_components(refused, write_dicom, picture, encoded):
    stream = encoded(picture, uid.JPEG2000, 12)
    after = 4 + struct.unpack_from(">H", stream, 4)[0]
    components = 16_000
    size = struct.pack(">H", 38 + 3 * components) + stream[6:40] + struct.pack(">H", components)
    bomb = stream[:4] + size + stream[42:45] * components + stream[after:]
    refusal = refused(write_dicom(syntax=uid.JPEG2000, frame=bomb))
    assert refusal.reason is Reason.DICOM_DAMAGED
    assert "16,000 samples a pixel" in refusal.message


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGLSLossless], ids=["jpeg", "jpeg-ls"])
@pytest.mark.parametrize("container", ["dicom", "file"])
def test_a_jpeg_of_200_components(refused, write_dicom, picture, encoded, syntax, container, tmp_path):
    pixels = (picture >> 4).astype(np.uint8)
    stream = bytearray(encoded(pixels, syntax, 8))
    mark = b"\xff\xf7" if syntax == uid.JPEGLSLossless else b"\xff\xc0"
    stream[stream.index(mark) + 9] = 200
    path = tmp_path / "bomb.jpg"
    path.write_bytes(stream)
    if container == "dicom":
        path = write_dicom(pixels=pixels, syntax=syntax, frame=bytes(stream))
    assert "200 samples a pixel" in refused(path).message


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SamplesPerPixel": 60_000}, "60000 samples a pixel"),
        ({"TileWidth": 32_768, "TileLength": 32_768}, "32768 × 32768 pixels"),
        ({"BitsPerSample": 64, "ImageWidth": 8000, "ImageLength": 8000}, "512 MB"),
    ],
)
def test_a_tiff_that_claims_too_much(refused, tmp_path, picture, tags, words):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, picture, tile=(64, 64))
    with tifffile.TiffFile(path, mode="r+") as file:
        for name, value in tags.items():
            file.pages[0].tags[name].overwrite(value)
    assert words in refused(path).message


@pytest.mark.parametrize("code", [256, 257, 277, 322])
def test_a_tiff_whose_size_stands_there_twice(refused, tmp_path, picture, code):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, picture, tile=(64, 64), software="x")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["Software"].offset
    data = bytearray(path.read_bytes())
    struct.pack_into("<HHII", data, place, code, 4, 1, 50_000)
    path.write_bytes(data)
    assert "stands there twice" in refused(path).message


def test_a_png_of_four_samples_of_16_bits(refused, tmp_path, picture):
    png = imagecodecs.png_encode(picture)
    head = b"IHDR" + struct.pack(">IIBB", 8000, 8000, 16, 6) + png[26:29]
    path = tmp_path / "bomb.png"
    path.write_bytes(png[:12] + head + zlib.crc32(head).to_bytes(4, "big") + png[33:])
    assert "8000 × 8000 pixels of 4 × 16 bits, 512 MB" in refused(path).message


def test_a_dicom_header_of_more_bytes_than_a_radiograph_has(refused, write_dicom):
    refusal = refused(write_dicom(Rows=8000, Columns=8000, SamplesPerPixel=3, BitsAllocated=16))
    assert refusal.reason is Reason.NOT_AN_IMAGE
    assert "384 MB" in refusal.message


def without_group_length(path: Path) -> Path:
    """The same file without (0002,0000), which readers do without."""
    data = path.read_bytes()
    assert data[132:140] == _GROUP_LENGTH
    path.write_bytes(data[:132] + data[144:])
    return path


def without_preamble(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[132:])
    return path


def unchanged(path: Path) -> Path:
    return path


@pytest.mark.parametrize("change", [unchanged, without_group_length, without_preamble])
def test_deflated_data_are_unpacked_up_to_a_limit(write_dicom, monkeypatch, change):
    path = change(write_dicom(syntax=uid.DeflatedExplicitVRLittleEndian))
    assert isinstance(read(RadiographRef(path, "a")), Radiograph)
    monkeypatch.setattr(dicom, "MAX_DECODED_BYTES", 10_000)
    found = read(RadiographRef(path, "a"))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.NOT_AN_IMAGE
    assert "unpacks to more" in found.message


def test_too_little_memory_is_not_called_damage(write_dicom, monkeypatch):
    def full(*_args):
        raise MemoryError

    monkeypatch.setattr(dicom, "decode", full)
    path = write_dicom()
    with pytest.raises(MemoryError):
        read(RadiographRef(path, "a"))


def test_a_tiff_of_very_many_pages_is_not_walked(tmp_path, picture):
    """A mutant named thousands of pages, each a list of thousands of tags: a minute to walk."""
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(picture)
        for _ in range(20):
            file.write(picture[::4, ::4], subfiletype=1)
    found = read(RadiographRef(path, "a"))
    assert isinstance(found, Refusal)
    assert found.reason is Reason.MULTI_FRAME
    assert "several pages" in found.message
