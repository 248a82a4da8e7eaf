"""The `qc_flags` of files and knees: what a person should know of a row that was scored all the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# Of a file: by its scan, its header or its pixels.
DUPLICATE_UID: Final = "duplicate-uid"
SPACING_INVALID: Final = "spacing-invalid"
SPACING_OVERRIDE: Final = "spacing-override"
SPACING_CONFLICT: Final = "spacing-conflict"
SPACING_OF_PATIENT: Final = "spacing-of-patient-plane"
ID_ENCODING: Final = "id-encoding-unsure"
DUPLICATE_FILE: Final = "duplicate-file"
SIDE_CONFLICT: Final = "side-conflict"
MODALITY_UNKNOWN: Final = "modality-unknown"
BODY_PART_CONFLICT: Final = "body-part-conflict"
VIEW_AMBIGUOUS: Final = "view-ambiguous"
VIEW_OBLIQUE: Final = "view-oblique"
LONG_LEG: Final = "long-leg"
IMPLANT_MENTIONED: Final = "implant-mentioned"
PUT_UPRIGHT: Final = "put-upright"
ORIENTATION_UNCLEAR: Final = "orientation-unclear"
ASPECT_INVALID: Final = "aspect-invalid"
POLARITY_CONFLICT: Final = "polarity-conflict"
VOI_LUT_INVERTS: Final = "voi-lut-inverts"
INVERTED_BY_OPTION: Final = "inverted-by-option"
COLOUR_IMAGE: Final = "colour-image"
DECODER_FALLBACK: Final = "decoder-fallback"
BRIGHTNESS_STEP: Final = "brightness-step"

# Of a knee: by where and how it was found.
CROPPED_INPUT: Final = "cropped-input"
INVERSION_DETECTED: Final = "inversion-detected"
SCALE_ESTIMATED: Final = "scale-estimated"
SPACING_IMPLAUSIBLE: Final = "spacing-implausible"
SIDE_FROM_NAME: Final = "side-from-name"
SIDE_FROM_ANATOMY: Final = "side-from-anatomy"
SIDE_DISAGREES_ANATOMY: Final = "side-disagrees-anatomy"
SIDE_DISAGREES_HEADER: Final = "side-disagrees-header"
FAINT_KNEE: Final = "faint-knee"
FEW_PIXELS: Final = "few-pixels"
SMALL_JOINT: Final = "small-joint"
METAL_SEEN: Final = "metal-seen"
PLATES_OPEN: Final = "growth-plates-open"
NEAR_BORDER: Final = "near-border"
LOW_CONTRAST: Final = "low-contrast"
PARTLY_BLANK: Final = "partly-blank"

# Of what was to be written beside the table.
NO_DICOM_OUTPUT: Final = "no-dicom-output"

MEANINGS: Final[dict[str, str]] = {
    DUPLICATE_UID: "an earlier file of the scan has the same SOPInstanceUID, with the same side asked",
    SPACING_INVALID: "the header's pixel spacing is not a plausible number of millimetres and was not used",
    SPACING_OVERRIDE: "the option's or manifest's spacing was used; the header's differs by more than 5 %",
    SPACING_CONFLICT: "ImagerPixelSpacing and PixelSpacing differ by more than 20 %; the former was used",
    SPACING_OF_PATIENT: "the spacing is of the patient's plane, and the magnification is unknown: crop and "
    "millimetres differ from other rows' by that",
    ID_ENCODING: "the header does not say, or says wrongly, how PatientID is encoded: compare it",
    DUPLICATE_FILE: "an earlier file of the scan has the same bytes, or is this one, with that side asked",
    SIDE_CONFLICT: "the header names different sides in different places; the most specific one was used",
    MODALITY_UNKNOWN: "the header names no modality",
    BODY_PART_CONFLICT: "one part of the header says knee and another names another part of the body",
    VIEW_AMBIGUOUS: "the header names a frontal and a lateral or patellar view alike",
    VIEW_OBLIQUE: "the header says that the view is oblique",
    LONG_LEG: "a long-leg or stitched radiograph, by its description or its shape",
    IMPLANT_MENTIONED: "the header mentions an implant",
    PUT_UPRIGHT: "the file says that its picture is stored mirrored or turned; it was put upright",
    ORIENTATION_UNCLEAR: "the header may mean that the image is mirrored or turned; it was used as stored",
    ASPECT_INVALID: "the header's pixels are no radiograph's shape (PixelAspectRatio); squares were taken",
    POLARITY_CONFLICT: "PhotometricInterpretation and PresentationLUTShape disagree; the former was used",
    VOI_LUT_INVERTS: "the header's VOI LUT falls where it should rise; the gray scale was turned accordingly",
    INVERTED_BY_OPTION: "the gray scale was inverted because --invert yes asked for it",
    COLOUR_IMAGE: "a colour image (a screen capture, perhaps), scored by its luminance",
    DECODER_FALLBACK: "the usual decoder could not read the pixels; a more lenient one did",
    BRIGHTNESS_STEP: "below one line all brightness is moved by one amount, as in a damaged JPEG: look at it",
    CROPPED_INPUT: "the image is already one knee's crop and was scored as it is",
    INVERSION_DETECTED: "the grey scale looked reversed (bone dark) and was turned",
    SCALE_ESTIMATED: "no usable spacing: the crop is scaled by the knee's own width, without millimetres",
    SPACING_IMPLAUSIBLE: "the stated spacing would make the joint far too wide or narrow, and was not used",
    SIDE_FROM_NAME: "the side was read from the file's name",
    SIDE_FROM_ANATOMY: "the side was read from the knee's anatomy: nothing states it",
    SIDE_DISAGREES_ANATOMY: "the knee looks like one of the other side: mirrored, or wrongly labelled",
    SIDE_DISAGREES_HEADER: "the header names another side than the one used",
    FAINT_KNEE: "the localiser was not sure that this is a frontal knee",
    FEW_PIXELS: "fewer than 120 pixels across the joint: the networks see an enlarged, blurred knee",
    SMALL_JOINT: "by its spacing the joint is under 60 mm wide: a child's, no knee, or a wrong spacing",
    METAL_SEEN: "flat, bright shapes with sharp edges: screws, a plate, a nail or a marker on the knee",
    PLATES_OPEN: "dark lines across both bones, as open growth plates are: perhaps a child's knee; its "
    "grade and risk mean nothing",
    NEAR_BORDER: "a tenth of the crop or more lies beyond the radiograph's border, filled with its edge",
    LOW_CONTRAST: "the knee spans a small part of the radiograph's grey scale",
    PARTLY_BLANK: "a quarter of the crop or more is one dark or bright grey: collimation, or saturation",
    NO_DICOM_OUTPUT: "no DICOM report or capture was written: the image is no DICOM file, or its header "
    "lacks or spoils what a report must repeat (UIDs, patient, study)",
}
"""Every flag in words: the table's data dictionary explains ``qc_flags`` with them."""

FACTS: Final = frozenset(
    {PUT_UPRIGHT, INVERTED_BY_OPTION, DECODER_FALLBACK, CROPPED_INPUT, SCALE_ESTIMATED, SIDE_FROM_NAME}
)
"""Flags that say how a row came about; every other one is something that a person should look at."""


def apart(qc_flags: Iterable[str]) -> tuple[list[str], list[str]]:
    """Flags to look at, and mere facts."""
    found = list(qc_flags)
    return [flag for flag in found if flag not in FACTS], [flag for flag in found if flag in FACTS]
