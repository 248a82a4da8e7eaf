"""A small sound file in every container and transfer syntax that is read, for benchmarks/fuzz.py."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt


def picture(rows: int = 72, columns: int = 64) -> npt.NDArray[np.uint16]:
    """A 12-bit picture, smooth with some noise."""
    y, x = np.mgrid[:rows, :columns]
    noise = np.random.default_rng(5).normal(0, 30, y.shape)
    return np.clip(1900 + 1500 * np.sin(y / 17) * np.cos(x / 23) + noise, 0, 4095).astype(np.uint16)


@cache
def seeds() -> dict[str, bytes]:
    """Name → a sound file, in every container and transfer syntax."""
    import imagecodecs
    import tifffile
    from PIL import Image
    from pydicom import uid

    grey = picture()
    eight = (grey >> 4).astype(np.uint8)
    colour = np.stack([eight, eight, np.clip(eight + 2, 0, 255)], axis=2).astype(np.uint8)
    files = {
        **{f"native-{s.keyword}": dicom(grey, s) for s in NATIVE},
        "bare-explicit": dicom(grey, uid.ExplicitVRLittleEndian, preamble=False),
        "bare-implicit": dicom(grey, uid.ImplicitVRLittleEndian, preamble=False),
        "signed": dicom(grey.astype(np.int16) - 2048, uid.ExplicitVRLittleEndian),
        "8-bit": dicom(eight, uid.ExplicitVRLittleEndian),
        "rgb": dicom(colour, uid.ExplicitVRLittleEndian, PhotometricInterpretation="RGB"),
        "palette": dicom(eight, uid.ExplicitVRLittleEndian, **palette()),
        "luts": dicom(grey, uid.ExplicitVRLittleEndian, luts=True),
        "frames": dicom(grey, uid.ExplicitVRLittleEndian, NumberOfFrames="2"),
        "overlay": dicom(grey << 4, uid.ExplicitVRLittleEndian, HighBit=15, overlay=True),
        **{f"frame-{s.keyword}": dicom(grey, s, frame=stream(grey, s)) for s in COMPRESSED},
        "frame-baseline": dicom(eight, uid.JPEGBaseline8Bit, frame=stream(eight, uid.JPEGBaseline8Bit)),
        "frame-baseline-rgb": dicom(
            colour,
            uid.JPEGBaseline8Bit,
            frame=bytes(imagecodecs.jpeg8_encode(colour, level=90)),
            PhotometricInterpretation="YBR_FULL_422",
        ),
        "frame-rle-rgb": dicom(colour, uid.RLELossless, frame=rle(colour), PhotometricInterpretation="RGB"),
        "frame-jpeg-2000-rgb": dicom(
            colour,
            uid.JPEG2000Lossless,
            frame=bytes(imagecodecs.jpeg2k_encode(colour, codecformat="J2K", reversible=True)),
            PhotometricInterpretation="YBR_RCT",
        ),
        "jpeg": bytes(imagecodecs.jpeg8_encode(eight, level=90)),
        "jpeg-rgb": bytes(imagecodecs.jpeg8_encode(colour, level=90)),
        "jpeg-ls": bytes(imagecodecs.jpegls_encode(grey)),
        "png-16": bytes(imagecodecs.png_encode(grey)),
        "png-rgb": bytes(imagecodecs.png_encode(colour)),
    }
    for name, options in {
        "jpeg-progressive": {"format": "JPEG", "progressive": True},
        "jpeg-restarts": {"format": "JPEG", "restart_marker_rows": 1},
        "jpeg-exif": {"format": "JPEG", "exif": turned()},
        "png-8": {"format": "PNG"},
        "png-exif": {"format": "PNG", "exif": turned()},
    }.items():
        out = io.BytesIO()
        Image.fromarray(eight).save(out, **options)
        files[name] = out.getvalue()
    for name, made in {
        "png-la": Image.fromarray(eight).convert("LA"),
        "png-p": Image.fromarray(eight).convert("P"),
    }.items():
        out = io.BytesIO()
        made.save(out, format="PNG")
        files[name] = out.getvalue()
    for name, (pixels, options) in {
        "tiff": (grey, {}),
        "tiff-big-endian": (grey, {"byteorder": ">"}),
        "tiff-lzw": (grey, {"compression": "lzw", "predictor": True}),
        "tiff-deflate": (grey, {"compression": "zlib", "rowsperstrip": 16}),
        "tiff-packbits": (eight, {"compression": "packbits"}),
        "tiff-jpeg": (eight, {"compression": "jpeg"}),
        "tiff-zstd": (grey, {"compression": "zstd"}),
        "tiff-tiled": (grey, {"tile": (32, 32), "compression": "zlib"}),
        "tiff-float": (grey.astype(np.float32), {}),
        "tiff-rgb": (colour, {"photometric": "rgb"}),
        "tiff-planar": (
            np.ascontiguousarray(colour.transpose(2, 0, 1)),
            {"photometric": "rgb", "planarconfig": "separate"},
        ),
        "tiff-palette": (
            eight,
            {"photometric": "palette", "colormap": np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))},
        ),
        "tiff-white": (grey, {"photometric": "miniswhite", "resolution": (300, 300)}),
    }.items():
        out = io.BytesIO()
        tifffile.imwrite(out, pixels, **options)
        files[name] = out.getvalue()
    out = io.BytesIO()
    tifffile.imwrite(out, grey, bigtiff=True)
    return {**files, "tiff-big": out.getvalue()}


def _syntaxes() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    from pydicom import uid

    native = (
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    )
    compressed = (
        uid.RLELossless,
        uid.JPEGExtended12Bit,
        uid.JPEGLossless,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEGLSNearLossless,
        uid.JPEG2000Lossless,
        uid.JPEG2000,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
    )
    return native, compressed


NATIVE, COMPRESSED = _syntaxes()


def stream(pixels: npt.NDArray[Any], syntax: Any) -> bytes:
    """A compressed frame of a grey picture."""
    import imagecodecs
    from pydicom import uid

    if syntax == uid.RLELossless:
        return rle(pixels)
    if syntax == uid.JPEGBaseline8Bit:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=90))
    if syntax == uid.JPEGExtended12Bit:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=90, bitspersample=12))
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        predictor = 1 if syntax == uid.JPEGLosslessSV1 else 4
        return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=12))
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(pixels, level=2 * (syntax == uid.JPEGLSNearLossless)))
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        quality = {"level": 45} if syntax == uid.JPEG2000 else {"level": 0, "reversible": True}
        return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=12, **quality))
    return bytes(imagecodecs.htj2k_encode(pixels, reversible=syntax != uid.HTJ2K))


def rle(pixels: npt.NDArray[Any]) -> bytes:
    """As PS3.5, annex G."""
    from rle.utils import encode_pixel_data

    return bytes(
        encode_pixel_data(
            pixels.tobytes(),
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=1 if pixels.ndim == 2 else 3,
            bits_allocated=8 * pixels.dtype.itemsize,
            number_of_frames=1,
            byteorder="<",
        )
    )


def turned() -> Any:
    """EXIF data of a picture that lies on its side."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def palette() -> dict[str, Any]:
    """Header elements of a palette of 256 greys."""
    ramp = (np.arange(256, dtype="<u2") * 257).tobytes()
    colours = ("Red", "Green", "Blue")
    return {
        "PhotometricInterpretation": "PALETTE COLOR",
        **{f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in colours},
        **{f"{c}PaletteColorLookupTableData": ramp for c in colours},
    }


def dicom(
    pixels: npt.NDArray[Any],
    syntax: Any,
    *,
    frame: bytes | None = None,
    preamble: bool = True,
    luts: bool = False,
    overlay: bool = False,
    **elements: Any,
) -> bytes:
    """A DX file with many of the elements that are read."""
    from pydicom import Dataset, Sequence, dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.7"
    ds.SpecificCharacterSet, ds.Modality, ds.PatientID = "ISO_IR 192", "DX", "P001"
    ds.SeriesDescription, ds.BodyPartExamined, ds.ViewPosition = "PA fixed flexion knee", "KNEE", "PA"
    ds.ImageLaterality, ds.PatientOrientation = "R", ["L", "F"]
    ds.ImagerPixelSpacing, ds.PixelSpacing = ["0.2", "0.2"], ["0.19", "0.19"]
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    ds.PhotometricInterpretation = "MONOCHROME2"
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = 12 if pixels.dtype.itemsize == 2 else 8
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
    if luts:
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [4096, 0, 16], np.arange(0, 65536, 16, dtype="<u2").tobytes()
        ds.VOILUTSequence = ds.ModalityLUTSequence = Sequence([table])
        ds.PixelPaddingValue = 0
    if overlay:
        ds.add_new(0x60000102, "US", 3)
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    data = (
        frame
        if frame is not None
        else pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    )
    if syntax.is_encapsulated:
        data = encapsulate([data])
    ds.add_new("PixelData", "OB" if syntax.is_encapsulated or ds.BitsAllocated == 8 else "OW", data)
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    whole = out.getvalue()
    if preamble:
        return whole
    return whole[144 + int.from_bytes(whole[140:144], "little") :]
