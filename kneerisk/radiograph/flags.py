"""The `qc_flags` of a file: things a person should know of a row that was scored all the same."""

from __future__ import annotations

from typing import Final

DUPLICATE_UID: Final = "duplicate-uid"
SPACING_INVALID: Final = "spacing-invalid"
SPACING_OVERRIDE: Final = "spacing-override"
SPACING_CONFLICT: Final = "spacing-conflict"
SIDE_CONFLICT: Final = "side-conflict"
MODALITY_UNKNOWN: Final = "modality-unknown"
BODY_PART_CONFLICT: Final = "body-part-conflict"
VIEW_AMBIGUOUS: Final = "view-ambiguous"
VIEW_OBLIQUE: Final = "view-oblique"
LONG_LEG: Final = "long-leg"
IMPLANT_MENTIONED: Final = "implant-mentioned"
POLARITY_CONFLICT: Final = "polarity-conflict"
VOI_LUT_INVERTS: Final = "voi-lut-inverts"
INVERTED_BY_OPTION: Final = "inverted-by-option"
COLOUR_IMAGE: Final = "colour-image"
DECODER_FALLBACK: Final = "decoder-fallback"

MEANINGS: Final[dict[str, str]] = {
    DUPLICATE_UID: "an earlier file of the scan has the same SOPInstanceUID, with the same side asked",
    SPACING_INVALID: "the header's pixel spacing is not a plausible number of millimetres and was not used",
    SPACING_OVERRIDE: "the option's or manifest's spacing was used; the header's differs by more than 5 %",
    SPACING_CONFLICT: "ImagerPixelSpacing and PixelSpacing differ by more than 20 %; the former was used",
    SIDE_CONFLICT: "the header names different sides in different places; the most specific one was used",
    MODALITY_UNKNOWN: "the header names no modality",
    BODY_PART_CONFLICT: "one part of the header says knee and another names another part of the body",
    VIEW_AMBIGUOUS: "the header names a frontal and a lateral or patellar view alike",
    VIEW_OBLIQUE: "the header says that the view is oblique",
    LONG_LEG: "a long-leg or stitched radiograph, by its description or its shape",
    IMPLANT_MENTIONED: "the header mentions an implant",
    POLARITY_CONFLICT: "PhotometricInterpretation and PresentationLUTShape disagree; the former was used",
    VOI_LUT_INVERTS: "the header's VOI LUT falls where it should rise; the gray scale was turned accordingly",
    INVERTED_BY_OPTION: "the gray scale was inverted because --invert yes asked for it",
    COLOUR_IMAGE: "a colour image (a screen capture, perhaps), scored by its luminance",
    DECODER_FALLBACK: "the usual decoder could not read the pixels; a more lenient one did",
}
"""Every flag of scan and read, in words for the table's data dictionary."""
