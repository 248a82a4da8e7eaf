"""Millimetres per pixel: by the header, or by the user, and whether they can be true."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kneerisk.radiograph import flags
from kneerisk.records import SpacingSource

if TYPE_CHECKING:
    from pydicom import Dataset

RANGE_MM = (0.02, 2.0)
"""Spacings that a radiograph can have: finer than any detector, coarser than any crop."""
MAX_EXTENT_MM = 2000.0
"""No radiograph shows more than a person's length."""
_MAX_ASPECT = 2.0
_MAX_MAGNIFICATION = 2.0
_AGREE = 0.05
_CONFLICT = 0.20

_KEYWORDS: tuple[SpacingSource, ...] = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True, slots=True)
class Spacing:
    """Row and column spacing in mm per pixel (``None`` where unknown), and where it is from."""

    mm: tuple[float, float] | None = None
    source: SpacingSource = "unknown"
    qc_flags: tuple[str, ...] = ()


def header_spacing(ds: Dataset) -> Spacing:
    """Spacing by the header: ImagerPixelSpacing (detector's plane), else PixelSpacing, else a scanner's.

    The detector's plane is the one that the crops are framed in. PixelSpacing may be calibrated to the
    patient's plane (PixelSpacingCalibrationType, PS3.3, 10.7.1): the magnification leads back to the
    detector's, and where none is known a flag says so. A spacing that cannot be true (not a number, zero,
    negative, absurd) is passed over and flagged.
    """
    valid: dict[SpacingSource, tuple[float, float]] = {}
    found: list[str] = []
    for keyword in _KEYWORDS:
        values = numbers_in(ds, keyword)
        if values is None:
            continue
        if len(values) == 2 and is_plausible((values[0], values[1]), int(ds.Rows), int(ds.Columns)):
            valid[keyword] = (values[0], values[1])
        else:
            found.append(flags.SPACING_INVALID)
    if not valid:
        return Spacing(qc_flags=tuple(dict.fromkeys(found)))
    if "PixelSpacing" in valid and _calibrated(ds):
        factor = _magnification(ds)
        down, across = valid["PixelSpacing"]
        if factor is not None:
            valid = {
                "PixelSpacing*magnification" if key == "PixelSpacing" else key: value
                for key, value in valid.items()
            }
            valid["PixelSpacing*magnification"] = (down * factor, across * factor)
        elif "ImagerPixelSpacing" not in valid:
            found.append(flags.SPACING_OF_PATIENT)
    source, spacing = next(iter(valid.items()))
    if any(_differ(spacing, other, _CONFLICT) for key, other in valid.items() if key.startswith("Pixel")):
        found.append(flags.SPACING_CONFLICT)
    return Spacing(spacing, source, tuple(dict.fromkeys(found)))


def chosen_spacing(header: Spacing, manifest_mm: float | None, option_mm: float | None) -> Spacing:
    """Spacing to use: the manifest's for this file, else the option's for all files, else the header's."""
    if manifest_mm is not None:
        given, source = manifest_mm, "manifest"
    elif option_mm is not None:
        given, source = option_mm, "option"
    else:
        return header
    found = header.qc_flags
    if header.mm is not None and _differ(header.mm, (given, given), _AGREE):
        found = (*found, flags.SPACING_OVERRIDE)
    return Spacing((given, given), "manifest" if source == "manifest" else "option", found)


def is_plausible(spacing: tuple[float, float], rows: int, columns: int) -> bool:
    """Whether a spacing in mm per pixel can be that of a radiograph of this size."""
    low, high = min(spacing), max(spacing)
    return (
        all(math.isfinite(value) for value in spacing)
        and RANGE_MM[0] <= low
        and high <= RANGE_MM[1]
        and high <= _MAX_ASPECT * low
        and max(rows * spacing[0], columns * spacing[1]) <= MAX_EXTENT_MM
    )


def _calibrated(ds: Dataset) -> bool:
    """Whether PixelSpacing is of the patient's plane."""
    return str(ds.get("PixelSpacingCalibrationType", "") or "").strip().upper() in ("GEOMETRY", "FIDUCIAL")


def _magnification(ds: Dataset) -> float | None:
    """Detector's plane over patient's: the estimate, else the ratio of the distances from the source."""
    estimate = numbers_in(ds, "EstimatedRadiographicMagnificationFactor")
    detector, patient = (
        numbers_in(ds, keyword) for keyword in ("DistanceSourceToDetector", "DistanceSourceToPatient")
    )
    for factor in (
        estimate[0] if estimate else math.nan,
        detector[0] / patient[0] if detector and patient and patient[0] else math.nan,
    ):
        if 1.0 <= factor <= _MAX_MAGNIFICATION:
            return factor
    return None


def _differ(one: tuple[float, float], other: tuple[float, float], tolerance: float) -> bool:
    return any(abs(a - b) > tolerance * b for a, b in zip(one, other, strict=True))


def numbers_in(ds: Dataset, keyword: str) -> list[float] | None:
    """Numbers of an element; ``None`` where it is absent or empty, nan for a part that is no number."""
    try:
        value: Any = ds.get(keyword)
    except Exception:
        return [math.nan]
    if value is None or value == "":
        return None
    parts = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    numbers = []
    for part in parts:
        try:
            numbers.append(float(part))
        except (TypeError, ValueError):
            numbers.append(math.nan)
    return numbers or None
