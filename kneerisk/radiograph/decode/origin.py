"""Whose a DICOM image is: what a report must repeat of its header, for a PACS to file the two together."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from kneerisk.places.reach import read_bytes
from kneerisk.radiograph.decode.quiet import Quiet
from kneerisk.radiograph.sources.sniff import HEAD_BYTES, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset

_MOST = 1 << 30
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns")
_REPEATED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName", "Modality"),
)


def origin_of(path: Path) -> Dataset | None:
    """The image's UIDs and size, its patient and its study, as its header has them; empty where it has none.

    Text is UTF-8 whatever the header's encoding was. ``None`` where the file is no DICOM image, cannot be
    read, lacks a UID, or has a value that no object may hold, such as a date that is none: no report can
    refer to it.
    """
    from pydicom import dcmread
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    found = Dataset()
    try:
        data = read_bytes(path, _MOST)
        if sniff(data[:HEAD_BYTES]) != "dicom":
            return None
        with Quiet():
            header = dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
            if not all(header.get(name) for name in _NEEDED):
                return None
            for name in (*_REPEATED, *_NEEDED):
                tag = tag_for_keyword(name)
                assert tag is not None
                vr = dictionary_VR(tag)
                value = header.get(name, "")
                text = value if vr == "US" else str(value or "")
                found.add(DataElement(tag, vr, text, validation_mode=RAISE))
    except Exception:  # pydicom's own errors have no common class, and the file may be another by now
        return None
    found.SpecificCharacterSet = "ISO_IR 192"
    return found
