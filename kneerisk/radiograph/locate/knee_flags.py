"""The `qc_flags` of a located knee: things a person should know of a row that was scored all the same."""

from __future__ import annotations

from typing import Final

CROPPED_INPUT: Final = "cropped-input"
INVERSION_DETECTED: Final = "inversion-detected"
SCALE_ESTIMATED: Final = "scale-estimated"
SPACING_IMPLAUSIBLE: Final = "spacing-implausible"
SIDE_FROM_NAME: Final = "side-from-name"
SIDE_FROM_ANATOMY: Final = "side-from-anatomy"
SIDE_DISAGREES_ANATOMY: Final = "side-disagrees-anatomy"
SIDE_DISAGREES_HEADER: Final = "side-disagrees-header"
FAINT_KNEE: Final = "faint-knee"
NEAR_BORDER: Final = "near-border"
LOW_CONTRAST: Final = "low-contrast"
PARTLY_BLANK: Final = "partly-blank"

MEANINGS: Final[dict[str, str]] = {
    CROPPED_INPUT: "the image is already one knee's crop and was scored as it is",
    INVERSION_DETECTED: "the grey scale looked reversed (bone dark) and was turned",
    SCALE_ESTIMATED: "no usable spacing: the crop is scaled by the knee's own width, without millimetres",
    SPACING_IMPLAUSIBLE: "the stated spacing would make the joint far too wide or narrow, and was not used",
    SIDE_FROM_NAME: "the side was read from the file's name",
    SIDE_FROM_ANATOMY: "the side was read from the knee's anatomy: nothing states it",
    SIDE_DISAGREES_ANATOMY: "the knee looks like one of the other side: mirrored, or wrongly labelled",
    SIDE_DISAGREES_HEADER: "the header names another side than the one used",
    FAINT_KNEE: "the localiser was not sure that this is a frontal knee",
    NEAR_BORDER: "a tenth of the crop or more lies beyond the radiograph's border, filled with its edge",
    LOW_CONTRAST: "the knee spans a small part of the radiograph's grey scale",
    PARTLY_BLANK: "a quarter of the crop or more is one dark or bright grey: collimation, or saturation",
}
"""Every flag of localise, in words for the table's data dictionary."""
