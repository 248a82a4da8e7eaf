"""Wrap an 8-bit grey image as a lossless DICOM secondary capture whose header says no more than is known."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

_ENCODERS: dict[str, Any] = {
    uid.JPEGLossless: imagecodecs.ljpeg_encode,
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
}


def wrapped(
    pixels: npt.NDArray[np.uint8],
    participant: str,
    side: str,
    spacing: tuple[float, float] | None,
    inverted: bool,
    source: str,
    part: str = "KNEE",
) -> Dataset:
    """Describe an image as a secondary capture, uncompressed.

    Args:
        pixels: [H, W], as stored.
        participant: becomes PatientID; there is no name, birth date or study date.
        side: ImageLaterality, L or R.
        spacing: row and column spacing in mm, an estimate; ``None`` leaves it out.
        inverted: bone is dark in ``pixels``: the image is MONOCHROME1.
        source: DerivationDescription: where the pixels come from and what was done to them.
        part: BodyPartExamined.
    """
    dataset = Dataset()
    dataset.SOPClassUID = uid.SecondaryCaptureImageStorage
    # Named after the pixels and their place, so that building the cohort again gives the same bytes.
    name = hashlib.sha256(pixels.tobytes() + f"{participant}{side}{part}".encode()).hexdigest()
    dataset.SOPInstanceUID = f"2.25.{int(name[:30], 16)}"
    dataset.StudyInstanceUID = f"2.25.{int(hashlib.sha256(participant.encode()).hexdigest()[:30], 16)}"
    dataset.SeriesInstanceUID = f"{dataset.StudyInstanceUID}.1"
    dataset.PatientID, dataset.PatientName = participant, ""
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyDate = dataset.StudyTime = ""
    dataset.StudyID = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Modality, dataset.ConversionType = "DX", "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BodyPartExamined, dataset.ImageLaterality = part, side
    dataset.SeriesNumber, dataset.InstanceNumber = 1, 1
    dataset.SeriesDescription = f"PA {part.title()}"
    dataset.DerivationDescription = source
    dataset.BurnedInAnnotation = "NO"
    dataset.SamplesPerPixel, dataset.NumberOfFrames = 1, 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if spacing is not None:
        dataset.PixelSpacing = [f"{value:.4f}" for value in spacing]
    dataset.PixelData = pixels.tobytes()
    return dataset


def save(dataset: Dataset, path: Path, syntax: uid.UID) -> None:
    """Write a data set of `wrapped` in a transfer syntax; every one of them is lossless."""
    pixels = np.frombuffer(dataset.PixelData, np.uint8).reshape(dataset.Rows, dataset.Columns)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if syntax.is_compressed else syntax
    if syntax == uid.RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax.is_compressed:
        dataset.PixelData = encapsulate([_ENCODERS[syntax](pixels)])
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
