"""PNG, JPEG and TIFF files: pixels as stored, after a look at the size they claim and at their end.

imagecodecs reads their pixels: it raises where OpenCV writes to the terminal, and it never fills a missing
part with gray. What a PNG or TIFF file says of itself, Pillow and tifffile tell first.
"""

from __future__ import annotations

import logging
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.greyscale import Polarity
from kneerisk.radiograph.decode.headers import Header, RefusedError, check_bytes, check_size
from kneerisk.radiograph.decode.picture import COLOURED, Picture, is_coloured, luminance
from kneerisk.radiograph.decode.quiet import Quiet
from kneerisk.radiograph.decode.spacing import Spacing
from kneerisk.radiograph.decode.streams import MOST_SAMPLES, jpeg_frame, jpeg_is_whole
from kneerisk.radiograph.upright import MAX_ASPECT, ORIENTATIONS, UPRIGHT
from kneerisk.radiograph.whole.jpeg import loss_in_8_bits, loss_in_lossless
from kneerisk.radiograph.whole.seams import has_seam

if TYPE_CHECKING:
    from PIL.Image import Image
    from tifffile import TiffPage

_ORIENTATION_TAG = 0x0112
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a pixel, by the colour type (W3C PNG, 11.2.1)."""
_TIFF_ONCE = {
    "ImageWidth": 256,
    "ImageLength": 257,
    "BitsPerSample": 258,
    "SamplesPerPixel": 277,
    "RowsPerStrip": 278,
    "TileWidth": 322,
    "TileLength": 323,
}
"""Tags that memory depends on: where one stands twice, two readers take two values."""
_MOST_PAGES = 16
"""Of a TIFF file, thumbnails counted: a damaged one may name thousands, each a list of thousands of tags."""


def load_raster(data: bytes, kind: Literal["png", "jpeg", "tiff"]) -> Picture:
    """Decode a file's bytes.

    Raises:
        RefusedError: too small or too large, several pages, cut short, or damaged.
    """
    inverted, aspect = False, 1.0
    try:
        if kind == "png":
            pixels, orientation = _png(data)
        elif kind == "jpeg":
            pixels, orientation = _jpeg(data)
        else:
            pixels, inverted, orientation, aspect = _tiff(data)
    except RefusedError:
        raise
    except Exception as error:
        raise damaged(str(error) or type(error).__name__) from error
    colour = pixels.ndim == 3 and pixels.shape[2] >= 3
    if colour:
        if is_coloured(pixels):
            raise RefusedError(Reason.WRONG_MODALITY, COLOURED)
        pixels = luminance(pixels)
    elif pixels.ndim == 3:  # gray with alpha
        pixels = pixels[..., 0].copy()
    if pixels.ndim != 2:
        raise damaged(f"the picture has {pixels.ndim} dimensions")
    check_size(*pixels.shape)
    header = Header(None, None, None, Spacing(), ())
    found = (flags.COLOUR_IMAGE,) if colour else ()
    if kind == "jpeg" and has_seam(pixels):
        found = (*found, flags.BRIGHTNESS_STEP)
    return Picture(pixels, Polarity(inverted), header, found, orientation=orientation, aspect=aspect)


def damaged(what: str) -> RefusedError:
    """Build the refusal of a picture that cannot be decoded."""
    line = (what.splitlines() or [""])[0][:200]
    message = f"the picture cannot be decoded ({line}); copy or export it again"
    return RefusedError(Reason.IMAGE_DAMAGED, message)


def _png(data: bytes) -> tuple[npt.NDArray[Any], int]:
    import imagecodecs
    from PIL.PngImagePlugin import PngImageFile

    with Quiet():
        picture = PngImageFile(BytesIO(data))
        check_size(picture.height, picture.width)
        bits, colour_type = data[24:26]
        check_bytes(picture.height, picture.width, _PNG_SAMPLES.get(colour_type, 4), bits)
        # All chunks, to the end mark: imagecodecs 2026.3.6 drops a reference to None at every PNG that it
        # cannot read, and some thousands of them end the interpreter.
        picture.verify()
        orientation = _by_exif(PngImageFile(BytesIO(data)))
    pixels: npt.NDArray[Any] = imagecodecs.png_decode(data)
    return pixels, orientation


def _by_exif(picture: Image) -> int:
    """How a picture is stored, by its EXIF data; upright where they are absent, damaged or odd."""
    try:
        orientation = int(picture.getexif().get(_ORIENTATION_TAG, UPRIGHT))
    except Exception:  # whatever Pillow meets in damaged data that are no part of the picture
        return UPRIGHT
    return orientation if orientation in ORIENTATIONS else UPRIGHT


def _jpeg(data: bytes) -> tuple[npt.NDArray[Any], int]:
    import imagecodecs
    from PIL.JpegImagePlugin import JpegImageFile

    frame = jpeg_frame(data)
    if frame is None:
        raise damaged("it has no JPEG frame")
    marker, size, components = frame
    check_size(*size)
    if not jpeg_is_whole(data):
        raise damaged("the file is cut short")
    if components == 4:
        raise damaged("it is in CMYK; save it in gray")
    if components > MOST_SAMPLES:
        raise damaged(f"it has {components} samples a pixel")
    check_bytes(*size, components, 16 if marker == 0xF7 else 8)
    decode = imagecodecs.jpegls_decode if marker == 0xF7 else imagecodecs.jpeg8_decode
    pixels: npt.NDArray[Any] = decode(data)
    if marker == 0xF7:
        return pixels, UPRIGHT  # JPEG-LS has no EXIF
    loss = loss_in_lossless(data, pixels) if marker == 0xC3 else loss_in_8_bits(data, components)
    if loss is not None:
        raise damaged(f"part of it is lost: {loss}")
    with Quiet():
        return pixels, _by_exif(JpegImageFile(BytesIO(data)))


def _tiff(data: bytes) -> tuple[npt.NDArray[Any], bool, int, float]:
    """First page of a TIFF file; whether it shows zero as white; how it is stored; its pixels' aspect.

    Thumbnails do not count as pages.
    """
    import imagecodecs
    from tifffile import PHOTOMETRIC, PLANARCONFIG, TiffFile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file, its row says
    with TiffFile(BytesIO(data)) as file:
        pages = [page.aspage() for page in islice(file.pages, _MOST_PAGES + 1)]
        full = [index for index, page in enumerate(pages) if not page.is_reduced]
        if len(full) > 1 or len(pages) > _MOST_PAGES:
            many = "several" if len(pages) > _MOST_PAGES else len(full)
            raise RefusedError(
                Reason.MULTI_FRAME, f"the TIFF file holds {many} pages; export the one radiograph from it"
            )
        index = full[0] if full else 0
        page = pages[index]
        _check_tiff_memory(page)
        orientation = page.tags.valueof("Orientation", UPRIGHT)
        aspect = _tiff_aspect(page.tags.valueof("XResolution"), page.tags.valueof("YResolution"))
        photometric = page.tags.valueof("PhotometricInterpretation", PHOTOMETRIC.MINISBLACK)
        apart = page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
        # Painted here: libtiff would turn the picture as it paints, by half of its orientation.
        palette = page.colormap if photometric == PHOTOMETRIC.PALETTE else None
    pixels: npt.NDArray[Any] = imagecodecs.tiff_decode(data, index=index)
    if apart and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    if palette is not None:
        pixels = np.ascontiguousarray(palette.T[pixels])
    if orientation not in ORIENTATIONS:
        orientation = UPRIGHT
    return pixels, photometric == PHOTOMETRIC.MINISWHITE, int(orientation), aspect


def _check_tiff_memory(page: TiffPage) -> None:
    """Look at all that libtiff gives memory by, before it does: the picture, and one of its tiles."""
    for name, code in _TIFF_ONCE.items():
        if len(page.tags.getall(code, default=()) or ()) > 1:
            raise damaged(f"its tag {name} stands there twice")
    check_size(page.imagelength, page.imagewidth)
    if not 0 < page.samplesperpixel <= MOST_SAMPLES:
        raise damaged(f"it has {page.samplesperpixel} samples a pixel")
    if page.imagedepth != 1 or page.tiledepth > 1:
        raise damaged("it is a volume")
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    check_bytes(page.imagelength, page.imagewidth, page.samplesperpixel, bits)
    check_bytes(page.tilelength, page.tilewidth, page.samplesperpixel, bits)


def _tiff_aspect(across: Any, down: Any) -> float:
    """A pixel's height over its width, by the pixels per unit of length across and down, as fractions."""
    try:
        aspect = float(across[0] * down[1] / (across[1] * down[0]))
    except (TypeError, IndexError, ZeroDivisionError):
        return 1.0
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0
