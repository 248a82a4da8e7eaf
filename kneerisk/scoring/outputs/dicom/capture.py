"""A knee's preview → a DICOM secondary capture in the radiograph's own study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kneerisk.scoring.outputs.dicom.common import MANUFACTURER, STATEMENT, marks_of, sign, uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SERIES_NUMBERS = {"R": 9602, "L": 9603}


def capture_of(
    origin: Dataset, picture: npt.NDArray[np.uint8], side: str, provenance: Mapping[str, Any], number: int
) -> Dataset:
    """The capture of one knee, to be saved.

    Args:
        origin: the radiograph's header: UIDs, patient and study.
        picture: [H, W, 3], the preview.
        side: L or R.
        provenance: the columns from ``stack`` to ``kneerisk_version``.
        number: of the instance within its series.
    """
    import highdicom as hd
    from pydicom.dataset import Dataset
    from pydicom.uid import RLELossless

    marks = marks_of(provenance)
    made = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=origin.StudyInstanceUID,
        series_instance_uid=uid("captures", origin.StudyInstanceUID, marks, side),
        series_number=_SERIES_NUMBERS[side],
        sop_instance_uid=uid("capture", origin.SOPInstanceUID, marks, side),
        instance_number=number,
        manufacturer=MANUFACTURER,
        patient_id=origin.PatientID,
        patient_name=origin.PatientName,
        patient_birth_date=origin.PatientBirthDate,
        patient_sex=origin.PatientSex or None,
        accession_number=origin.AccessionNumber,
        study_id=origin.StudyID,
        study_date=origin.StudyDate,
        study_time=origin.StudyTime,
        referring_physician_name=origin.ReferringPhysicianName,
        laterality=side,
        # The right-knee frame of a frontal view: a right knee's columns run to the participant's left, a
        # left knee is shown mirrored; rows run to the feet.
        patient_orientation=("L", "F") if side == "R" else ("R", "F"),
        transfer_syntax_uid=RLELossless,
    )
    sign(made, provenance)
    made.ConversionType = "WSD"
    made.BurnedInAnnotation = "YES"
    made.ImageComments = STATEMENT
    reference = Dataset()
    reference.ReferencedSOPClassUID = origin.SOPClassUID
    reference.ReferencedSOPInstanceUID = origin.SOPInstanceUID
    made.SourceImageSequence = [reference]
    return made
