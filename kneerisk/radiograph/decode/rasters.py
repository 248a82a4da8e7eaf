"""PNG, JPEG and TIFF files: pixels as stored, after a look at the size they claim and at their end.

imagecodecs reads their pixels: it raises where OpenCV writes to the terminal, and it never fills a missing
part with gray. What a PNG or TIFF file says of itself, Pillow and tifffile tell first.
"""

from __future__ import annotations

import logging
from io import BytesIO
from typing import Any, Literal

import numpy.typing as npt

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.greyscale import Polarity
from kneerisk.radiograph.decode.headers import Header, RefusedError, check_size
from kneerisk.radiograph.decode.picture import Picture, luminance
from kneerisk.radiograph.decode.quiet import Quiet
from kneerisk.radiograph.decode.spacing import Spacing
from kneerisk.radiograph.decode.streams import jpeg_frame, jpeg_is_whole


def load_raster(data: bytes, kind: Literal["png", "jpeg", "tiff"]) -> Picture:
    """Decode a file's bytes.

    Raises:
        RefusedError: too small or too large, several pages, cut short, or damaged.
    """
    inverted = False
    try:
        if kind == "png":
            pixels = _png(data)
        elif kind == "jpeg":
            pixels = _jpeg(data)
        else:
            pixels, inverted = _tiff(data)
    except RefusedError:
        raise
    except Exception as error:
        raise damaged(str(error) or type(error).__name__) from error
    colour = pixels.ndim == 3 and pixels.shape[2] >= 3
    if colour:
        pixels = luminance(pixels)
    elif pixels.ndim == 3:  # gray with alpha
        pixels = pixels[..., 0].copy()
    if pixels.ndim != 2:
        raise damaged(f"the picture has {pixels.ndim} dimensions")
    check_size(*pixels.shape)
    header = Header(None, None, None, Spacing(), ())
    return Picture(pixels, Polarity(inverted), header, (flags.COLOUR_IMAGE,) if colour else ())


def damaged(what: str) -> RefusedError:
    """Build the refusal of a picture that cannot be decoded."""
    line = (what.splitlines() or [""])[0][:200]
    message = f"the picture cannot be decoded ({line}); copy or export it again"
    return RefusedError(Reason.IMAGE_DAMAGED, message)


def _png(data: bytes) -> npt.NDArray[Any]:
    import imagecodecs
    from PIL.PngImagePlugin import PngImageFile

    with Quiet():
        picture = PngImageFile(BytesIO(data))
        check_size(picture.height, picture.width)
        # All chunks, to the end mark: imagecodecs 2026.3.6 drops a reference to None at every PNG that it
        # cannot read, and some thousands of them end the interpreter.
        picture.verify()
    pixels: npt.NDArray[Any] = imagecodecs.png_decode(data)
    return pixels


def _jpeg(data: bytes) -> npt.NDArray[Any]:
    import imagecodecs

    frame = jpeg_frame(data)
    if frame is None:
        raise damaged("it has no JPEG frame")
    marker, size, components = frame
    check_size(*size)
    if not jpeg_is_whole(data):
        raise damaged("the file is cut short")
    if components == 4:
        raise damaged("it is in CMYK; save it in gray")
    decode = imagecodecs.jpegls_decode if marker == 0xF7 else imagecodecs.jpeg8_decode
    pixels: npt.NDArray[Any] = decode(data)
    return pixels


def _tiff(data: bytes) -> tuple[npt.NDArray[Any], bool]:
    """First page of a TIFF file, and whether it shows zero as white; thumbnails do not count as pages."""
    import imagecodecs
    from tifffile import PHOTOMETRIC, TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, its row says
    with TiffFile(BytesIO(data)) as file:
        pages = [page.aspage() for page in file.pages]
        full = [index for index, page in enumerate(pages) if not page.is_reduced]
        if len(full) > 1:
            raise RefusedError(
                Reason.MULTI_FRAME,
                f"the TIFF file holds {len(full)} pages; export the one radiograph from it",
            )
        index = full[0] if full else 0
        page = pages[index]
        check_size(page.imagelength, page.imagewidth)
        photometric = page.tags.valueof("PhotometricInterpretation", PHOTOMETRIC.MINISBLACK)
    is_palette = photometric == PHOTOMETRIC.PALETTE
    pixels: npt.NDArray[Any] = imagecodecs.tiff_decode(data, index=index, asrgb=is_palette)
    return pixels, photometric == PHOTOMETRIC.MINISWHITE
