"""The pixels of a DICOM data set by the fastest decoder for its transfer syntax, plugged into pydicom.

By measurement on 2048×2494 pixels: imagecodecs for every JPEG, JPEG-LS and JPEG 2000, pylibjpeg-rle for
RLE, pydicom itself for uncompressed data. imagecodecs works outside the interpreter's lock, so threads decode
side by side. GDCM, slower but lenient, is asked, in its own process, where imagecodecs cannot read a JPEG,
and for its warnings where that is a 12-bit one. A picture that lost something is an error: see ``whole``.
"""

from __future__ import annotations

import copy
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.lenient import decode_lenient as decode_lenient
from kneerisk.radiograph.decode.lenient import loss_in_12_bits
from kneerisk.radiograph.decode.streams import (
    MOST_SAMPLES,
    StreamError,
    jpeg2000_frame,
    jpeg_frame,
    jpeg_is_whole,
)
from kneerisk.radiograph.whole.jpeg import loss_in_8_bits, loss_in_lossless
from kneerisk.radiograph.whole.jpeg2000 import decode_jpeg2000
from kneerisk.radiograph.whole.seams import has_seam

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import DecodeRunner
    from pydicom.uid import UID

_JPEG = (
    "1.2.840.10008.1.2.4.50",  # baseline, 8 bit
    "1.2.840.10008.1.2.4.51",  # extended, 12 bit
    "1.2.840.10008.1.2.4.57",  # lossless
    "1.2.840.10008.1.2.4.70",  # lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
)
_IN_BLOCKS = _JPEG[:2]
_JPEG_2000 = (
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",  # high throughput
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
)
_RLE = "1.2.840.10008.1.2.5"
_LABEL = "kneerisk"
_LENIENT = "kneerisk-lenient"
_plugging_in = threading.Lock()
_losses: ContextVar[list[str]] = ContextVar("_losses")
"""What `decode_frame` noticed: pydicom would wrap an error, and ask the lenient decoder."""

DECODER_DEPENDENCIES = {
    **dict.fromkeys((*_JPEG, *_JPEG_2000), ("imagecodecs>=2024.1.1",)),
    _RLE: ("pylibjpeg-rle>=2.0",),
}
"""What pydicom names where a plugin cannot be used (its plugin interface asks for this constant)."""


class UnsupportedSyntaxError(Exception):
    """No decoder here reads this transfer syntax."""


class StreamSizeError(Exception):
    """The compressed stream announces another size than the header, or more samples than a picture has."""


class VideoError(Exception):
    """The pixel data are a video."""


def is_available(uid: str) -> bool:
    """Whether `decode_frame` reads a transfer syntax (part of pydicom's plugin interface)."""
    return uid in DECODER_DEPENDENCIES


def decode(ds: Dataset) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Decode a single-frame data set → (pixels [H, W] or RGB [H, W, 3], qc_flags).

    The stored values come out as they are: signed where the header says so, bits above BitsStored removed
    only where they are not the picture's; YBR becomes RGB; no rescaling and no window.

    Raises:
        UnsupportedSyntaxError: no decoder for the transfer syntax.
        StreamSizeError: the header and the compressed stream differ in size, or the stream has odd samples.
        StreamError: part of the picture is lost.
        VideoError: MPEG or HEVC.
        Exception: whatever the decoders raise for damaged data.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = ds.file_meta.TransferSyntaxUID
    if syntax.startswith("1.2.840.10008.1.2.4.10"):
        raise VideoError(syntax.name)
    _plug_in()
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnsupportedSyntaxError(_named(syntax)) from error
    found: tuple[str, ...] = ()
    if (samples := _samples(ds)) not in (None, int(ds.SamplesPerPixel)):
        ds = _with_samples(ds, samples)
    as_stored: dict[str, Any] = {"correct_unused_bits": False}
    if not syntax.is_encapsulated:
        pixels, _ = decoder.as_array(ds, **as_stored)
    elif syntax not in DECODER_DEPENDENCIES:
        raise UnsupportedSyntaxError(_named(syntax))
    else:
        options = {} if syntax in (*_JPEG_2000, *_JPEG[-2:]) else as_stored
        _check_stream_size(ds)
        losses: list[str] = []
        _losses.set(losses)
        try:
            pixels, _ = decoder.as_array(ds, decoding_plugin=_LABEL, **options)
        except Exception:
            if syntax not in _JPEG:
                raise
            pixels, _ = decoder.as_array(ds, decoding_plugin=_LENIENT, **options)
            found = (flags.DECODER_FALLBACK,)
        if losses:
            raise StreamError(f"part of the picture is lost: {losses[0]}")
        if syntax in _IN_BLOCKS and pixels.ndim == 2 and has_seam(pixels):
            found = (*found, flags.BRIGHTNESS_STEP)
    return _own_bits(pixels, ds), found


def _named(syntax: UID) -> str:
    return f"{syntax.name} ({syntax})" if syntax.is_valid else "its TransferSyntaxUID, which is no UID"


def _samples(ds: Dataset) -> int | None:
    """Samples of a pixel by the pixel data themselves, without alpha; ``None`` where they do not tell."""
    from pydicom.encaps import get_frame

    syntax = ds.file_meta.TransferSyntaxUID
    if "PixelData" not in ds:
        return None
    if not syntax.is_encapsulated:
        plane = int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated) // 8
        return next((n for n in (1, 3) if len(ds.PixelData) == n * plane + n * plane % 2), None)
    src = get_frame(ds.PixelData, 0, number_of_frames=1)
    if syntax == _RLE:
        counted = int.from_bytes(src[:4], "little") // max(1, int(ds.BitsAllocated) // 8)
    elif (jpeg := jpeg_frame(src)) is not None:
        counted = jpeg[2]
        if counted == 4 and jpeg[0] != 0xF7:
            raise StreamError("the JPEG stream is in CMYK; save it in gray")
    elif (jpeg2000 := jpeg2000_frame(src)) is not None:
        counted = jpeg2000[1]
    else:
        return None
    return {1: 1, 2: 1, 3: 3, 4: 3}.get(counted)


def _with_samples(ds: Dataset, samples: int) -> Dataset:
    """The data set with another number of samples than its header's, for pydicom to decode."""
    ds = copy.copy(ds)
    ds.SamplesPerPixel = samples
    if samples == 1:
        ds.PhotometricInterpretation = "MONOCHROME2"
    elif str(ds.PhotometricInterpretation).startswith(("MONOCHROME", "PALETTE")):
        is_jpeg = ds.file_meta.TransferSyntaxUID in _JPEG[:3]
        ds.PhotometricInterpretation = "YBR_FULL" if is_jpeg else "RGB"
    if samples == 3 and "PlanarConfiguration" not in ds:
        ds.PlanarConfiguration = 0
    return ds


def _decode_rle(src: bytes, runner: DecodeRunner) -> bytearray:
    from rle.rle import decode_frame as decode_rle

    try:
        frame: bytearray = decode_rle(src, runner.rows * runner.columns, runner.bits_allocated, "<")
    except BaseException as error:
        # A panic in its Rust is no Exception, and would end the run where a damaged file should cost a row.
        if type(error).__name__ != "PanicException":
            raise
        raise StreamError(f"the RLE data are damaged: {error}") from None
    runner.set_option("planar_configuration", 1)
    return frame


def _check_stream_size(ds: Dataset) -> None:
    """Compare the compressed stream's size with the header's, before any decoder gives memory to it."""
    from pydicom.encaps import get_frame

    if ds.file_meta.TransferSyntaxUID == _RLE:
        return
    src = get_frame(ds.PixelData, 0, number_of_frames=1)
    jpeg = jpeg_frame(src)
    if jpeg is not None and not jpeg_is_whole(src):
        raise StreamError("the JPEG stream has no end")  # libjpeg would fill the rest with gray
    jpeg2000 = jpeg2000_frame(src) if jpeg is None else None
    size, samples = jpeg2000 or ((None, 0) if jpeg is None else jpeg[1:])
    if samples > MOST_SAMPLES:
        raise StreamSizeError(f"the image stream has {samples:,} samples a pixel, not up to {MOST_SAMPLES}")
    if size is not None and size != (ds.Rows, ds.Columns):
        raise StreamSizeError(
            f"the header says {ds.Rows} × {ds.Columns} pixels, the image stream {size[0]} × {size[1]}"
        )


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one compressed frame (pydicom's plugin interface).

    The stream's own marks decide, not the transfer syntax: a lossless stream under the syntax of a lossy
    one is read like any other.
    """
    import imagecodecs

    if runner.transfer_syntax == _RLE:
        return _decode_rle(src, runner)
    jpeg = jpeg_frame(src)
    space = str(runner.photometric_interpretation)
    loss: str | None = None
    if jpeg is None:
        pixels, loss = decode_jpeg2000(src)
        if space in ("YBR_RCT", "YBR_ICT"):
            runner.set_option("photometric_interpretation", "RGB")
    elif jpeg[0] == 0xF7:
        pixels = imagecodecs.jpegls_decode(src)
    elif jpeg[0] == 0xC3:
        pixels = imagecodecs.jpeg8_decode(src)
        loss = loss_in_lossless(src, pixels)
    elif jpeg[2] == 3:
        coded = "RGB" if space == "RGB" else "YCBCR"
        pixels = imagecodecs.jpeg8_decode(src, colorspace=coded, outcolorspace="RGB")
        runner.set_option("photometric_interpretation", "RGB")
    else:
        pixels = imagecodecs.jpeg8_decode(src)
    if jpeg is not None and jpeg[0] not in (0xF7, 0xC3):
        loss = loss_in_8_bits(src, jpeg[2]) if pixels.dtype == np.uint8 else loss_in_12_bits(src, runner)
    if loss is not None:
        _losses.get([]).append(loss)
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):  # the last one is alpha
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(pixels).tobytes()


def _plug_in() -> None:
    """Make `decode_frame` known to pydicom under the label "kneerisk", for every syntax it reads, once.

    Threads read files side by side: without the lock two of them add the same plug-in, and the one that
    comes second loses its file.
    """
    from pydicom.pixels.decoders.base import get_decoder

    with _plugging_in:
        for uid in DECODER_DEPENDENCIES:
            decoder = get_decoder(uid)
            if _LABEL not in decoder.available_plugins:
                decoder.add_plugin(_LABEL, (__name__, "decode_frame"))
                decoder.add_plugin(_LENIENT, (__name__, "decode_lenient"))


def _own_bits(pixels: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[Any]:
    """Drop the bits that are not the picture's, and extend the sign of values stored in fewer bits.

    Values beyond BitsStored are left alone where they are the picture's: no overlay is declared in the spare
    bits, HighBit says nothing else, and cutting them off would wrap the values and tear the picture.
    BitsStored is then simply wrong.
    """
    if pixels.dtype.kind not in "iu" or "BitsStored" not in ds:
        return pixels
    width = 8 * pixels.dtype.itemsize
    stored = int(ds.BitsStored)
    shift = int(ds.get("HighBit", stored - 1)) + 1 - stored
    if not 0 < stored <= width or not 0 <= shift <= width - stored:
        return pixels
    half = 1 << stored - 1
    lowest, highest = (-half, half - 1) if pixels.dtype.kind == "i" else (0, 2 * half - 1)
    if shift == 0 and int(pixels.min()) >= lowest and int(pixels.max()) <= highest:
        return pixels
    overlaid = any(int(ds[tag].value or 0) for tag in _overlay_positions(ds))
    spare = width - stored - shift
    own: npt.NDArray[Any] = np.right_shift(np.left_shift(pixels, spare), spare + shift)
    whole = shift == 0 and not overlaid and _roughness(pixels) <= _roughness(own)
    return pixels if whole else own


def _roughness(pixels: npt.NDArray[Any]) -> float:
    """Mean step between neighbours of a row; values that wrap make it large."""
    return float(np.abs(np.diff(pixels[::4].astype(np.float64), axis=1)).mean())


def _overlay_positions(ds: Dataset) -> list[int]:
    return [tag for group in range(0x6000, 0x601F, 2) if (tag := group << 16 | 0x0102) in ds]
