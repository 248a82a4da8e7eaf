"""Simulated radiographs as DICOM files, marked as simulated in every place a reader may look.

The same radiograph gives the same bytes: UIDs and dates follow from the seed alone.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.simulate.radiograph import SimulatedRadiograph
from kneerisk.simulate.vendors import Syntax

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NOTE = "SIMULATED radiograph: drawn from a shape model, no person was imaged. Research software."
_UIDS: dict[Syntax, str] = {
    "implicit-little-endian": "1.2.840.10008.1.2",
    "explicit-little-endian": "1.2.840.10008.1.2.1",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg-lossless": "1.2.840.10008.1.2.4.57",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-2000": "1.2.840.10008.1.2.4.90",
}


def write_dicom(
    simulated: SimulatedRadiograph,
    path: Path,
    *,
    participant_id: str,
    syntax: Syntax | None = None,
    visit_date: str = "20040601",
    series: str | None = None,
) -> None:
    """Write ``simulated`` to ``path`` as one CR or DX image.

    ``syntax`` overrides the look's transfer syntax; every one is lossless.  ``participant_id`` becomes the
    PatientID, with ``SIM`` before it if need be.  ``series`` overrides the SeriesDescription, for
    pictures of something else.  MONOCHROME1 files hold the inverted pixels.
    """
    data = dicom_bytes(
        simulated, participant_id=participant_id, syntax=syntax, visit_date=visit_date, series=series
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def dicom_bytes(
    simulated: SimulatedRadiograph,
    *,
    participant_id: str,
    syntax: Syntax | None = None,
    visit_date: str = "20040601",
    series: str | None = None,
) -> bytes:
    """What ``write_dicom`` writes."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    look = simulated.look
    syntax = look.syntax if syntax is None else syntax
    pixels = simulated.pixels
    if look.photometric == "MONOCHROME1":
        pixels = np.asarray((1 << look.bits) - 1 - pixels, np.uint16)
    dataset = _header(simulated, participant_id, visit_date)
    if series is not None:
        dataset.SeriesDescription = series
        dataset.BodyPartExamined = "HAND" if "Hand" in series else "PELVIS" if "Pelvis" in series else "KNEE"
        dataset.ViewPosition = "LL" if "Lateral" in series else "PA" if "PA" in series else "AP"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(_UIDS[syntax])
    meta.ImplementationClassUID = UID(_uid("implementation"))
    meta.ImplementationVersionName = "KNEERISK_SIM"
    dataset.file_meta = meta
    if syntax in ("implicit-little-endian", "explicit-little-endian"):
        dataset.PixelData = pixels.tobytes()
    else:
        dataset.PixelData = encapsulate([_encode(pixels, syntax, look.bits)])
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OW" if look.bits > 8 else "OB"
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _header(simulated: SimulatedRadiograph, participant_id: str, visit_date: str) -> Dataset:
    from pydicom.dataset import Dataset

    look = simulated.look
    pixel_hash = hashlib.sha256(simulated.pixels.tobytes()).hexdigest()
    patient = participant_id if participant_id.startswith("SIM") else f"SIM{participant_id}"
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["DERIVED", "SECONDARY", "SIMULATED"]
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1" if look.modality == "CR" else "1.2.840.10008.5.1.4.1.1.1.1"
    ds.SOPInstanceUID = _uid("image", patient, visit_date, pixel_hash)
    ds.StudyInstanceUID = _uid("study", patient, visit_date)
    ds.SeriesInstanceUID = _uid("series", patient, visit_date, simulated.view)
    ds.StudyDate = ds.ContentDate = visit_date
    ds.StudyTime = ds.ContentTime = "120000"
    ds.Modality = look.modality
    ds.Manufacturer = f"SIMULATED {look.name}"
    ds.ManufacturerModelName = look.name
    ds.PatientName = f"SIMULATED^{patient}"
    ds.PatientID = patient
    ds.PatientBirthDate = ""
    ds.PatientSex = ""
    ds.BodyPartExamined = "KNEE"
    ds.ViewPosition = "PA"
    ds.StudyDescription = "Simulated knee radiographs"
    if simulated.view == "bilateral":
        ds.SeriesDescription = "Bilateral PA Fixed Flexion Knee"
        ds.ImageLaterality = "B"
    else:
        side = simulated.knees[0].side
        ds.SeriesDescription = f"PA Fixed Flexion Knee {'Right' if side == 'R' else 'Left'}"
        ds.ImageLaterality = side
    ds.PatientOrientation = ["L", "F"]  # as seen from the front: columns run to the participant's left
    ds.ImageComments = _NOTE
    ds.DerivationDescription = _NOTE
    ds.BurnedInAnnotation = "NO"
    ds.AccessionNumber = ds.StudyID = ds.ReferringPhysicianName = ""
    ds.SeriesNumber = ds.InstanceNumber = "1"
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = look.photometric
    ds.PresentationLUTShape = "INVERSE" if look.photometric == "MONOCHROME1" else "IDENTITY"
    ds.Rows, ds.Columns = simulated.pixels.shape
    ds.BitsAllocated = 16
    ds.BitsStored = look.bits
    ds.HighBit = look.bits - 1
    ds.PixelRepresentation = 0
    if look.spacing_tag != "none":
        setattr(ds, look.spacing_tag, [f"{simulated.spacing_mm:.6g}"] * 2)
    return ds


def _encode(pixels: npt.NDArray[np.uint16], syntax: Syntax, bits: int) -> bytes:
    """One losslessly compressed frame of ``pixels`` uint16 [H, W]."""
    import imagecodecs

    if syntax == "rle":
        return _rle(pixels)
    if syntax == "jpeg-lossless":  # process 14, selection value 1
        return bytes(imagecodecs.ljpeg_encode(pixels, bitspersample=bits))
    if syntax == "jpeg-ls":
        return bytes(imagecodecs.jpegls_encode(pixels))
    return bytes(
        imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, bitspersample=bits)
    )


def _rle(pixels: npt.NDArray[np.uint16]) -> bytes:
    """DICOM PS3.5 annex G: the high bytes, then the low ones, each row packed apart."""
    import imagecodecs

    segments = []
    for plane in (pixels >> 8, pixels & 255):
        packed = b"".join(bytes(imagecodecs.packbits_encode(row)) for row in plane.astype(np.uint8))
        segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = [64, 64 + len(segments[0])]
    header = np.array([2, *offsets] + [0] * 13, "<u4").tobytes()
    return header + b"".join(segments)


def _uid(*parts: str) -> str:
    """A UUID-derived UID (PS3.5 annex B.2) from text: the same text, the same UID."""
    digest = hashlib.sha256("/".join(("kneerisk simulate", *parts)).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"
