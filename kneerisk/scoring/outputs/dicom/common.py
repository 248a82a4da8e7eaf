"""What reports and captures share: UIDs that follow from what was scored, and the marks of this software."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk_engines.files import written_whole

from kneerisk.errors import UsageError
from kneerisk.places.place import OUR_MANUFACTURER
from kneerisk.storage import writing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

STATEMENT = (
    "Research use only: no medical device, not a diagnosis. Grades, risks, landmarks and joint space widths "
    "are a network's; landmarks, widths and the forecast are unvalidated."
)
SERIES = f"{OUR_MANUFACTURER}, RESEARCH USE ONLY"


def check_installed() -> None:
    """UsageError where the library that writes DICOM reports is missing."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "--dicom-sr and --dicom-sc need highdicom: install it with pip install 'kneerisk[pacs]'"
        ) from error


def uid(*parts: object) -> str:
    """A UUID-derived UID (DICOM PS3.5, B.2): an image that is scored again alike gets the same report."""
    digest = hashlib.sha256("\n".join(map(str, ("kneerisk", *parts))).encode()).digest()[:16]
    return f"2.25.{int.from_bytes(digest, 'big')}"


def marks_of(provenance: Mapping[str, Any]) -> str:
    """All that a row depends on but the image, in one line."""
    return " ".join(f"{name}={provenance[name]}" for name in sorted(provenance))


def sign(made: Dataset, provenance: Mapping[str, Any]) -> None:
    """Say in ``made`` what wrote it, and what for."""
    made.SpecificCharacterSet = "ISO_IR 192"
    made.ManufacturerModelName = "kneerisk"
    made.DeviceSerialNumber = str(provenance["stack_sha256"])[:16]
    made.SoftwareVersions = [str(provenance["kneerisk_version"]), str(provenance["stack"])[:64]]
    made.SeriesDescription = SERIES


def packed(made: Dataset) -> bytes:
    """A DICOM file's bytes.

    In memory, as pydicom hides a full disk's error in one of its own, with a traceback for words.
    """
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def save(content: bytes, path: Path) -> None:
    """Write a file; it is complete or absent.

    Raises:
        StorageError: the disk does not take it.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            aside.write_bytes(content)
