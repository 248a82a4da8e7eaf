"""A DICOM file's bytes to stored pixels and what its header says of them."""

from __future__ import annotations

import re
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.decoders import StreamSizeError, UnsupportedSyntaxError, VideoError, decode
from kneerisk.radiograph.decode.greyscale import polarity_of
from kneerisk.radiograph.decode.headers import (
    MAX_DECODED_BYTES,
    OVERLAY_TAGS,
    TAGS,
    Header,
    RefusedError,
    interpret,
    odd_elements,
)
from kneerisk.radiograph.decode.picture import COLOURED, Picture, is_coloured, luminance
from kneerisk.radiograph.decode.quiet import Quiet
from kneerisk.radiograph.decode.streams import StreamError

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_CODECS = frozenset({"imagecodecs", "zlib", "struct"})
"""Modules whose errors speak of streams alone."""
_NUMBERS_ONLY = re.compile(
    r"(The number of bytes of pixel data|There is insufficient pixel data|Unexpected number of bytes|"
    r"Unable to decode as exceptions)[^'\"\n]*"
)
"""Messages of pydicom that hold counts, and no text, up to the first quotation mark."""
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Of elements whose length takes four bytes, after two that are empty (PS3.5, 7.1.2)."""


def load_dicom(data: bytes) -> Picture:
    """Decode a DICOM file.

    Raises:
        RefusedError: for whatever is wrong with it; no other exception leaves this function for a bad file.
    """
    with Quiet():
        ds, header = _parse(data)
        pixels, found = _pixels(ds, header)
        try:
            colour = pixels.ndim == 3
            if str(ds.get("PhotometricInterpretation", "")).strip() == "PALETTE COLOR":
                from pydicom.pixels.processing import apply_color_lut

                pixels, colour = apply_color_lut(pixels, ds), True
            if colour:
                if is_coloured(pixels):
                    raise RefusedError(Reason.WRONG_MODALITY, COLOURED, header)
                pixels = luminance(pixels)
                found = (*found, flags.COLOUR_IMAGE)
            polarity, more = polarity_of(ds, pixels)
        except RefusedError:
            raise
        except Exception as error:
            raise _damaged(f"its gray scale cannot be read: {_told(error)}", header) from error
    return Picture(
        pixels, polarity, header, (*found, *more), orientation=header.orientation, aspect=header.aspect
    )


def _parse(data: bytes) -> tuple[Dataset, Header]:
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _check_inflated_size(data)
    try:
        tags: list[Any] = [*TAGS, *OVERLAY_TAGS]
        ds = dcmread(BytesIO(data), force=True, specific_tags=tags)
        if "TransferSyntaxUID" not in ds.file_meta:
            implicit, little = ds.original_encoding
            plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
        return ds, interpret(ds)
    except RefusedError:
        raise
    except Exception as error:
        raise _damaged(f"its header cannot be read: {_told(error)}") from error


def _pixels(ds: Dataset, header: Header) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    try:
        pixels, found = decode(ds)
        if pixels.ndim not in (2, 3) or pixels.shape[:2] != (ds.Rows, ds.Columns):
            raise StreamError(f"its pixels have the shape {pixels.shape}")
    except VideoError as error:
        raise RefusedError(
            Reason.MULTI_FRAME, f"the file is a video ({error}); export the one radiograph from it", header
        ) from error
    except UnsupportedSyntaxError as error:
        raise RefusedError(
            Reason.DECODER_MISSING,
            f"no decoder here reads {error}; convert the file to an uncompressed or JPEG-lossless one",
            header,
        ) from error
    except StreamSizeError as error:
        raise _damaged(str(error), header) from error
    except Exception as error:
        odd = f"; {', '.join(wrong)} holds no valid value" if (wrong := odd_elements(ds)) else ""
        raise _damaged(f"its pixels cannot be decoded: {_told(error)}{odd}", header) from error
    return pixels, found


def _told(error: Exception) -> str:
    """What an exception says where it can quote no text of the header, else only its kind.

    pydicom quotes values, and a name may have been typed where a value belongs.
    """
    if isinstance(error, StreamError) or type(error).__module__.partition(".")[0] in _CODECS:
        return str(error)
    known = _NUMBERS_ONLY.match(str(error))
    return type(error).__name__ if known is None else known.group()


def _damaged(what: str, header: Header | None = None) -> RefusedError:
    line = (what.splitlines() or [""])[0].rstrip(" :;.")[:200]
    message = f"the DICOM file is damaged or cut short ({line}); copy or export it again"
    return RefusedError(Reason.DICOM_DAMAGED, message, header)


def _check_inflated_size(data: bytes) -> None:
    """Stop a deflated data set that would unpack to too much, before pydicom unpacks it."""
    start = _end_of_meta(data)
    if _DEFLATED not in data[:start]:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        rest = data[start:]
        while rest and not inflater.eof:
            size += len(inflater.decompress(rest, 1 << 24))
            rest = inflater.unconsumed_tail
            if size > MAX_DECODED_BYTES:
                raise RefusedError(
                    Reason.NOT_AN_IMAGE,
                    f"the file unpacks to more than {MAX_DECODED_BYTES / 1e6:.0f} MB, no radiograph; "
                    "leave it out",
                )
    except zlib.error as error:
        raise _damaged(f"its deflated data cannot be unpacked: {error}") from error


def _end_of_meta(data: bytes) -> int:
    """Where group 0002 ends, element by element: its own length may be absent or wrong."""
    position = 132 if data[128:132] == b"DICM" else 0
    while data[position : position + 2] == b"\x02\0" and position + 12 <= len(data):
        if data[position + 4 : position + 6] in _LONG_VRS:
            position += 12 + int.from_bytes(data[position + 8 : position + 12], "little")
        else:
            position += 8 + int.from_bytes(data[position + 6 : position + 8], "little")
    return position
