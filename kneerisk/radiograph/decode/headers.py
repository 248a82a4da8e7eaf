"""What a DICOM header says of a radiograph, and whether it already rules the image out.

Only the elements in `TAGS` are ever parsed: a name, a birth date or another direct identifier is not among
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from kneerisk.errors import Reason
from kneerisk.radiograph import flags
from kneerisk.radiograph.decode import wording
from kneerisk.radiograph.decode.spacing import Spacing, header_spacing, numbers_in
from kneerisk.radiograph.upright import MAX_ASPECT, UPRIGHT, orientation_of
from kneerisk.records import Side

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "ProtocolName", "BodyPartExamined"),
    *("StudyDescription", "AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription"),
    *(
        "PatientID",
        "ImageLaterality",
        "Laterality",
        "ViewPosition",
        "ViewCodeSequence",
        "AnatomicRegionSequence",
    ),
    *("PixelSpacingCalibrationType", "EstimatedRadiographicMagnificationFactor"),
    *("DistanceSourceToDetector", "DistanceSourceToPatient", "SpecificCharacterSet"),
    *(
        "ImagerPixelSpacing",
        "PixelSpacing",
        "NominalScannedPixelSpacing",
        "NumberOfFrames",
        "Rows",
        "Columns",
    ),
    *("PatientOrientation", "FieldOfViewHorizontalFlip", "FieldOfViewRotation", "PixelAspectRatio"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PresentationLUTShape"),
    *(
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
    ),
    *(
        "RescaleSlope",
        "RescaleIntercept",
        "ModalityLUTSequence",
        "VOILUTSequence",
        "LUTDescriptor",
        "LUTData",
    ),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    *("SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("CodeMeaning", "CodeValue", "AnatomicRegionModifierSequence"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
)
"""Keywords of the elements that are read; overlays' bit positions are read beside them."""

OVERLAY_TAGS = tuple(group << 16 | 0x0102 for group in range(0x6000, 0x601F, 2))

MODALITIES = frozenset({"CR", "DX", "DR", "RG", "XA", "RF", "OT", "SC", "XR"})
"""Modalities that knee radiographs and their captures travel under."""

_OTHER_MODALITIES = frozenset(
    (
        *("ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CT", "CTPROTOCOL", "DMS", "DG", "DOC"),
        *("ECG", "EEG", "EMG", "EOG", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IVOCT", "IVUS", "KER"),
        *("KO", "LEN", "LS", "M3D", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF"),
        *("OPV", "OSS", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RTDOSE", "RTIMAGE", "RTINTENT"),
        *("RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "SEG", "SM", "SMR", "SR", "SRF", "STAIN"),
        *("TEXTUREMAP", "TG", "US", "VA", "XAPROTOCOL", "XC"),
    )
)
"""Further codes (PS3.3, C.7.3.1.1.1): a message may name them; other text may be anybody's name."""
_PHOTOMETRIC = frozenset(
    (
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
        *("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB"),
    )
)

MAX_PIXELS = 1 << 26
"""Most pixels that are decoded: above any stitched long-leg radiograph, and 268 MB as float32."""
MAX_DECODED_BYTES = 1 << 28
"""Most bytes that a picture may unpack to: as many pixels in colour of 8 bits, or in gray of 16."""
MIN_SIDE = 64
"""Fewest rows or columns in which a knee can be looked for."""

_LONG_LEG_MM = 600.0


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says, in the words of our own records."""

    sop_instance_uid: str | None
    participant_id: str | None
    side: Side | Literal["both"] | None
    spacing: Spacing
    qc_flags: tuple[str, ...]
    orientation: int = UPRIGHT
    aspect: float = 1.0
    """A pixel's height over its width, where no spacing tells it."""


class RefusedError(Exception):
    """A file is nothing to score, or cannot be read; the header is there as far as it was understood."""

    def __init__(self, reason: Reason, message: str, header: Header | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.header = header


def interpret(ds: Dataset) -> Header:
    """Read a data set's header.

    Raises:
        RefusedError: the modality, the part of the body, the view, the number of frames or the size rules
        it out.
    """
    found: list[str] = []
    identity = Header(_uid(ds), _participant_id(ds, found), None, Spacing(), ())
    texts = _texts(ds)
    try:
        _check_modality(ds, found)
        _check_frames(ds)
        _check_complete(ds)
        rows, columns = _whole(ds, "Rows"), _whole(ds, "Columns")
        check_size(rows, columns)
        check_bytes(rows, columns, _whole(ds, "SamplesPerPixel", 1), _whole(ds, "BitsAllocated", 8))
        _check_body_part(ds, texts, found)
        _check_view(ds, texts, found)
    except RefusedError as refused:
        raise RefusedError(refused.reason, str(refused), replace(identity, qc_flags=tuple(found))) from None
    if any(wording.mentions_implant(text) for text in texts):
        found.append(flags.IMPLANT_MENTIONED)
    spacing = header_spacing(ds)
    found.extend(spacing.qc_flags)
    tall = rows > 2.2 * columns or (spacing.mm is not None and rows * spacing.mm[0] > _LONG_LEG_MM)
    if tall or any(wording.mentions_long_leg(text) for text in texts):
        found.append(flags.LONG_LEG)
    side = _side(ds, texts, found)
    return replace(
        identity,
        side=side,
        spacing=spacing,
        orientation=_orientation(ds, found),
        aspect=_aspect(ds, found),
        qc_flags=tuple(dict.fromkeys(found)),
    )


def identifier_of(ds: Dataset, keyword: str) -> str | None:
    """Text of an identifier, stripped; ``None`` where it is empty or cannot be read."""
    return _text(ds, keyword) or None


def _uid(ds: Dataset) -> str | None:
    """SOPInstanceUID; ``None`` where what stands there is none (PS3.5, 9.1), such as somebody's name."""
    uid = identifier_of(ds, "SOPInstanceUID")
    return uid if uid is not None and len(uid) <= 64 and set(uid) <= set("0123456789.") else None


def odd_elements(ds: Dataset) -> list[str]:
    """Elements that decoding needs and whose text is none of a valid value's, by keyword."""
    odd = []
    if _text(ds, "PhotometricInterpretation") not in _PHOTOMETRIC:
        odd.append("PhotometricInterpretation")
    if not _text(ds, "NumberOfFrames").isdecimal() and "NumberOfFrames" in ds:
        odd.append("NumberOfFrames")
    return odd


def _participant_id(ds: Dataset, found: list[str]) -> str | None:
    """PatientID; flagged where its letters may be others.

    Without SpecificCharacterSet all text is ASCII (PS3.3, C.12.1.1.2). Bytes beyond it are read as UTF-8
    where they are that, for little else is by chance.
    """
    try:
        raw = ds.get_item("PatientID").value
    except Exception:
        raw = None
    if isinstance(raw, bytes) and not raw.isascii() and not _text(ds, "SpecificCharacterSet"):
        found.append(flags.ID_ENCODING)
        try:
            return raw.decode("utf-8").replace("\0", " ").strip() or None
        except UnicodeDecodeError:
            pass
    text = identifier_of(ds, "PatientID")
    # UTF-8 read as Latin text has control characters in it; undecodable bytes become U+FFFD.
    if text is not None and any("\x80" <= sign <= "\x9f" or sign == "\ufffd" for sign in text):
        found.append(flags.ID_ENCODING)
    return text


def check_size(rows: int, columns: int) -> None:
    """Refuse a picture that is too small for a knee, or larger than any radiograph.

    Raises:
        RefusedError: with the size.
    """
    if min(rows, columns) < MIN_SIDE:
        raise RefusedError(
            Reason.IMAGE_TOO_SMALL,
            f"the image has {rows} × {columns} pixels, at least {MIN_SIDE} × {MIN_SIDE} are needed; "
            "export it at full size",
        )
    if rows * columns > MAX_PIXELS:
        raise RefusedError(
            Reason.NOT_AN_IMAGE,
            f"the image claims {rows} × {columns} pixels, more than any radiograph; export it smaller",
        )


def check_bytes(rows: int, columns: int, samples: int, bits: int) -> None:
    """Refuse a picture that takes too much memory, before any is given to it: pixels are not all of it.

    Args:
        rows: of the picture, or of one of its tiles.
        columns: likewise.
        samples: of a pixel.
        bits: of a sample.

    Raises:
        RefusedError: with what it would take.
    """
    size = rows * columns * samples * bits // 8
    if size > MAX_DECODED_BYTES:
        raise RefusedError(
            Reason.NOT_AN_IMAGE,
            f"the image claims {rows} × {columns} pixels of {samples} × {bits} bits, {size / 1e6:,.0f} MB "
            f"where a radiograph has up to {MAX_DECODED_BYTES / 1e6:.0f} MB; export it in gray, or smaller",
        )


def _check_modality(ds: Dataset, found: list[str]) -> None:
    modality = _text(ds, "Modality").upper()
    if not modality:
        found.append(flags.MODALITY_UNKNOWN)
    elif modality not in MODALITIES:
        told = modality if modality in _OTHER_MODALITIES else "none that DICOM knows"
        raise RefusedError(
            Reason.WRONG_MODALITY,
            f"the modality is {told}, and only radiographs are scored ({', '.join(sorted(MODALITIES))}); "
            "leave the file out, or mend its Modality",
        )
    if not any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise RefusedError(
            Reason.NO_PIXELS,
            "the DICOM file holds no image (or its copy was cut short); export it again with its pixels",
        )


def _check_frames(ds: Dataset) -> None:
    frames = _whole(ds, "NumberOfFrames", 1)
    if frames > 1:
        raise RefusedError(
            Reason.MULTI_FRAME,
            f"the file holds {frames} frames (a video, say); export the one radiograph from it",
        )


def _check_complete(ds: Dataset) -> None:
    """Refuse a header without an element that pixels cannot be read without (PS3.3, C.7.6.3)."""
    needed = ["Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"]
    if "PixelData" in ds:
        needed += ["BitsStored", "PixelRepresentation"]
    lacking = [keyword for keyword in needed if keyword not in ds]
    if lacking:
        raise RefusedError(
            Reason.DICOM_DAMAGED,
            f"the DICOM header lacks {', '.join(lacking)}, without which its pixels cannot be read; "
            "export it again with all its elements",
        )


def _check_body_part(ds: Dataset, texts: list[str], found: list[str]) -> None:
    part = _text(ds, "BodyPartExamined")
    says_knee = any(wording.names_knee(text) for text in (part, *texts))
    for text in (part, *texts):
        elsewhere = wording.elsewhere_in(text, of_a_knee=wording.names_knee(part))
        if elsewhere is None:
            continue
        if says_knee:
            found.append(flags.BODY_PART_CONFLICT)
            continue
        raise RefusedError(
            Reason.WRONG_BODY_PART,
            f"the header speaks of {elsewhere}, no knee; leave the file out, or mend its BodyPartExamined",
        )


def _check_view(ds: Dataset, texts: list[str], found: list[str]) -> None:
    """Weigh the codes (ViewPosition, ViewCodeSequence) before the texts, which often name an examination."""
    meanings = [_text(item, "CodeMeaning") for item in _items(ds, "ViewCodeSequence")]
    by_code = {wording.view_in(text, is_code=True) for text in (_text(ds, "ViewPosition"), *meanings)}
    by_text = {wording.view_in(text) for text in texts}
    if wording.view_in(_text(ds, "BodyPartExamined")) == "patellar":
        by_text.add("ambiguous")  # the patella also shows on a frontal view
    wrong_codes, wrong_texts = (named & {"lateral", "patellar"} for named in (by_code, by_text))
    frontal = "frontal" in by_code or "frontal" in by_text
    refused = wrong_codes or (set() if "ambiguous" in by_text else wrong_texts)
    if refused and not frontal:
        names = " or ".join(sorted(str(view) for view in refused))
        raise RefusedError(
            Reason.WRONG_VIEW,
            f"the header says that the view is {names}, and only frontal ones (AP, PA) are scored; leave the "
            "file out, or mend its ViewPosition and descriptions",
        )
    if wrong_codes or wrong_texts or "ambiguous" in by_code | by_text:
        found.append(flags.VIEW_AMBIGUOUS)
    if "oblique" in by_code | by_text:
        found.append(flags.VIEW_OBLIQUE)


def _side(ds: Dataset, texts: list[str], found: list[str]) -> Side | Literal["both"] | None:
    """Side from the most specific place that names one: image, series, region code, text."""
    codes: dict[str, Side | Literal["both"]] = {"L": "L", "R": "R", "B": "both"}
    named: list[Side | Literal["both"]] = []
    for keyword in ("ImageLaterality", "Laterality"):
        text = _text(ds, keyword)
        code = codes.get(text.upper()) or wording.side_in(text)
        if code is not None:
            named.append(code)
    for region in _items(ds, "AnatomicRegionSequence"):
        for modifier in _items(region, "AnatomicRegionModifierSequence"):
            side = wording.side_in(_text(modifier, "CodeMeaning"))
            if side is not None:
                named.append(side)
    for text in (_text(ds, "BodyPartExamined"), *texts):
        side = wording.side_in(text)
        if side is not None:
            named.append(side)
    if len(set(named)) > 1:
        found.append(flags.SIDE_CONFLICT)
    return named[0] if named else None


def _orientation(ds: Dataset, found: list[str]) -> int:
    """How the picture is stored: PatientOrientation says it of the image as it is (PS3.3 C.7.6.1.1.1).

    A flip or turn of the field of view (C.8.11.2) is told against the detector, and a film taken from behind
    needs one: alone it does not say where the participant's left is.
    """
    named = _text(ds, "PatientOrientation").upper().split()
    orientation = orientation_of(*named) if len(named) == 2 else None
    flipped = _text(ds, "FieldOfViewHorizontalFlip").upper() == "YES"
    turned = any(turn % 360 for turn in numbers_in(ds, "FieldOfViewRotation") or ())
    if orientation is None and (named or flipped or turned):
        found.append(flags.ORIENTATION_UNCLEAR)
    return orientation or UPRIGHT


def _aspect(ds: Dataset, found: list[str]) -> float:
    """A pixel's height over its width, by PixelAspectRatio (vertical and horizontal size, C.7.6.3.1.7)."""
    sizes = numbers_in(ds, "PixelAspectRatio")
    if sizes is None:
        return 1.0
    if len(sizes) == 2 and all(size > 0 for size in sizes):
        aspect = sizes[0] / sizes[1]
        if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            return aspect
    found.append(flags.ASPECT_INVALID)
    return 1.0


def _texts(ds: Dataset) -> list[str]:
    """Descriptions of the image and its series; those of the study only where these are silent.

    A study's description speaks of all its images, such as "knee AP and lateral, both sides".
    """
    near = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
    texts = [text for keyword in near if (text := _text(ds, keyword))]
    return texts or [
        text
        for keyword in ("PerformedProcedureStepDescription", "StudyDescription")
        if (text := _text(ds, keyword)) and wording.view_in(text) != "ambiguous"
    ]


def _items(ds: Dataset, keyword: str) -> list[Any]:
    value = value_of(ds, keyword)
    return list(value) if type(value).__name__ == "Sequence" else []


def _text(ds: Dataset, keyword: str) -> str:
    value = value_of(ds, keyword)
    if type(value).__name__ == "MultiValue":
        value = " ".join(str(part) for part in value)
    return "" if value is None else str(value).replace("\0", " ").strip()


def value_of(ds: Dataset, keyword: str) -> Any:
    """Value of an element; ``None`` where it is absent, or so damaged that pydicom cannot convert it."""
    try:
        return ds.get(keyword)
    except Exception:
        return None


def _whole(ds: Dataset, keyword: str, default: int = 0) -> int:
    try:
        return int(value_of(ds, keyword) or default)
    except (TypeError, ValueError):
        return default
