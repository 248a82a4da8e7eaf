"""Small DICOM files written by the tests themselves, in every transfer syntax, with any header."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from rle.utils import encode_pixel_data

WriteDicom = Callable[..., Path]


def encode(pixels: np.ndarray[Any, Any], syntax: uid.UID, bits: int) -> bytes:
    """Pixels in a transfer syntax; native data as little endian bytes."""
    rows, columns = pixels.shape[:2]
    unsigned = pixels.view(pixels.dtype.str.replace("i", "u"))
    if syntax == uid.RLELossless:
        return encode_pixel_data(
            pixels.tobytes(),
            rows=rows,
            columns=columns,
            samples_per_pixel=1 if pixels.ndim == 2 else 3,
            bits_allocated=8 * pixels.dtype.itemsize,
            number_of_frames=1,
            byteorder="<",
        )
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        predictor = 1 if syntax == uid.JPEGLosslessSV1 else 4
        return imagecodecs.jpeg_encode(unsigned, lossless=True, predictor=predictor, bitspersample=bits)
    if syntax == uid.JPEGBaseline8Bit:
        return imagecodecs.jpeg8_encode(pixels, level=98)
    if syntax == uid.JPEGExtended12Bit:
        return imagecodecs.jpeg_encode(pixels, level=98, bitspersample=12)
    if syntax == uid.JPEGLSLossless:
        return imagecodecs.jpegls_encode(unsigned)
    if syntax == uid.JPEGLSNearLossless:
        return imagecodecs.jpegls_encode(unsigned, level=2)
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        return imagecodecs.jpeg2k_encode(
            pixels, codecformat="J2K", level=0, reversible=True, bitspersample=bits, mct=False
        )
    return pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Function (pixels, syntax, bits) → a compressed frame."""
    return encode


@pytest.fixture
def picture() -> np.ndarray[Any, Any]:
    """A 12-bit picture, uint16 [96, 80], with every value in its use of the range."""
    rows, columns = np.mgrid[:96, :80]
    noise = np.random.default_rng(5).normal(0, 30, rows.shape)
    return np.clip(1900 + 1500 * np.sin(rows / 17) * np.cos(columns / 23) + noise, 0, 4095).astype(np.uint16)


@pytest.fixture
def write_dicom(tmp_path: Path, picture: np.ndarray[Any, Any]) -> WriteDicom:
    """Function that writes a knee-like DX file; keywords set header elements, ``None`` leaves one out."""

    def write(
        name: str = "knee.dcm",
        pixels: np.ndarray[Any, Any] | None = None,
        syntax: uid.UID = uid.ExplicitVRLittleEndian,
        *,
        frame: bytes | None = None,
        preamble: bool = True,
        **elements: Any,
    ) -> Path:
        pixels = picture if pixels is None else pixels
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        ds.SOPInstanceUID = f"1.2.826.0.1.{zlib.crc32(name.encode())}"
        ds.Modality, ds.PatientID, ds.PatientName = "DX", "P001", "Must^Not^Be^Read"
        ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        ds.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            ds.PlanarConfiguration = 0
        ds.BitsAllocated = 8 * pixels.dtype.itemsize
        ds.BitsStored = 12 if pixels.dtype.itemsize == 2 else 8
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        for keyword, value in elements.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        ds.HighBit = elements.get("HighBit", ds.BitsStored - 1)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.get("SOPInstanceUID", "1.2.3")
        if "PixelData" not in elements:
            data = encode(pixels, syntax, ds.BitsStored) if frame is None else frame
            data = encapsulate([data]) if syntax.is_encapsulated else data + b"\0" * (len(data) % 2)
            ds.add_new("PixelData", "OB" if syntax.is_encapsulated or ds.BitsAllocated == 8 else "OW", data)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        if not preamble:
            whole = path.read_bytes()
            length = int.from_bytes(whole[140:144], "little")
            path.write_bytes(whole[144 + length :])
        return path

    return write
