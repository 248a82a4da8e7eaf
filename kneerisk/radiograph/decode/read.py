"""From one reference to one radiograph, float32 in 0..1 with bone bright, or to why there is none."""

from __future__ import annotations

import errno
import hashlib
from typing import Literal

from kneerisk.errors import Reason
from kneerisk.places.place import is_remote
from kneerisk.places.reach import read_bytes
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode.dicom import load_dicom
from kneerisk.radiograph.decode.greyscale import BlankImageError, Polarity, to_grey
from kneerisk.radiograph.decode.headers import RefusedError
from kneerisk.radiograph.decode.picture import Picture
from kneerisk.radiograph.decode.rasters import load_raster
from kneerisk.radiograph.decode.spacing import chosen_spacing
from kneerisk.radiograph.sources.candidates import refuse_if_no_image
from kneerisk.radiograph.sources.sniff import HEAD_BYTES, sniff
from kneerisk.radiograph.upright import UPRIGHT, put_upright, spacing_before
from kneerisk.records import Radiograph, RadiographRef, Refusal

_SQUEEZED = 1.4
"""Ratio of two spacings up to which a crop may have been squeezed to a square; Chen's reach about 1.2."""

MAX_FILE_BYTES = 1 << 30
"""Largest file that is taken into memory."""


def read(
    ref: RadiographRef,
    *,
    invert: Literal["auto", "yes", "no"] = "auto",
    spacing_mm: float | None = None,
) -> Radiograph | Refusal:
    """Read and decode one file; a bad one becomes a `Refusal`, never an exception (but a MemoryError).

    The file is read once. A picture stored mirrored, turned or with pixels that are no squares is put upright
    where its file says so (see `upright`), and ``to_source`` leads back. The gray scale is the header's
    (MONOCHROME1 turned, negative slopes and falling look-up tables followed), stretched over the image's own
    range with nothing cut off (see `greyscale`). An inversion burnt into the pixels cannot be told from a
    header: finding the knees tells it.

    Args:
        ref: what `scan` yielded.
        invert: ``"yes"`` turns the gray scale once more, for files whose header is wrong; ``"auto"`` and
            ``"no"`` follow the header.
        spacing_mm: the user's ``--spacing-mm`` for every file; a manifest's value for this file goes before
            it, and the header's comes last.

    Returns:
        A `Radiograph` whose ``side`` is the header's alone: the manifest's or option's travels in
        ``ref.side``.
    """
    # What lies elsewhere was looked at as it was listed, and each look is a request.
    if not is_remote(ref.path) and (refusal := refuse_if_no_image(ref)) is not None:
        return refusal
    try:
        data = read_bytes(ref.path, MAX_FILE_BYTES)
    except OSError as error:
        if error.errno == errno.EFBIG:
            return Refusal(ref, Reason.NOT_AN_IMAGE, str(error.strerror))
        whose = "try --retry-failed later" if is_remote(ref.path) else "check its permissions and its disk"
        message = f"the file cannot be read ({error.strerror}); {whose}"
        return Refusal(ref, Reason.FILE_UNREADABLE, message)
    digest = hashlib.sha256(data).hexdigest()
    try:
        return _radiograph(ref, data, digest, invert, spacing_mm)
    except RefusedError as refused:
        if isinstance(refused.__cause__, MemoryError):  # says nothing of the file's health
            raise refused.__cause__ from None
        header = refused.header
        return Refusal(
            ref,
            refused.reason,
            str(refused),
            input_sha256=digest,
            sop_instance_uid=None if header is None else header.sop_instance_uid,
            participant_id=ref.participant_id or (None if header is None else header.participant_id),
            qc_flags=(*ref.qc_flags, *(() if header is None else header.qc_flags)),
        )


def _radiograph(
    ref: RadiographRef, data: bytes, digest: str, invert: str, spacing_mm: float | None
) -> Radiograph:
    kind = sniff(data[:HEAD_BYTES])
    if kind is None:
        raise RefusedError(Reason.NOT_AN_IMAGE, "the file is no DICOM, PNG, JPEG or TIFF; leave it out")
    picture = load_dicom(data) if kind == "dicom" else load_raster(data, kind)
    header, polarity, found = picture.header, picture.polarity, picture.qc_flags
    if invert == "yes":
        polarity = Polarity(not polarity.inverted, polarity.padding)
        found = (*found, flags.INVERTED_BY_OPTION)
    try:
        pixels = to_grey(picture.stored, polarity)
    except BlankImageError as error:
        raise RefusedError(
            Reason.BLANK_IMAGE,
            "the image is blank: all its pixels have one value; check the exposure, or export it again",
            header,
        ) from error
    aspect = _aspect(picture)
    spacing = chosen_spacing(header.spacing, ref.spacing_mm, spacing_mm)
    known = spacing.mm
    if known is not None and spacing.source in ("option", "manifest"):
        # One number, said of pixels that are no squares, is their finer side.
        known = (known[0] * max(1.0, aspect), known[1] * max(1.0, 1 / aspect))
    pixels, to_source = put_upright(pixels, picture.orientation, aspect)
    if known is not None and to_source is not None:
        known = spacing_before(to_source, known)
    if picture.orientation != UPRIGHT:
        found = (*found, flags.PUT_UPRIGHT)
    return Radiograph(
        ref=ref,
        pixels=pixels,
        input_sha256=digest,
        spacing_mm=known,
        spacing_source=spacing.source,
        side=header.side,
        sop_instance_uid=header.sop_instance_uid,
        header_participant_id=header.participant_id,
        to_source=to_source,
        qc_flags=tuple(dict.fromkeys((*ref.qc_flags, *header.qc_flags, *spacing.qc_flags, *found))),
    )


def _aspect(picture: Picture) -> float:
    """A stored pixel's height over its width, as far as the picture is to be stretched by it.

    Two different spacings say it too.  But a crop squeezed to a square has them as well, those that the
    networks learnt from among them: such a one is looked at as it is.
    """
    spacing = picture.header.spacing.mm
    if spacing is not None:
        told = spacing[0] / spacing[1]
        if not 1 / _SQUEEZED <= told <= _SQUEEZED:
            return told
    return picture.aspect
