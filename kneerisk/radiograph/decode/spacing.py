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

    The first is preferred since every vendor means the same by it; PixelSpacing may or may not be corrected
    for magnification. One that cannot be true (not a number, zero, negative, absurd) is passed over and
    flagged.
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
    source, spacing = next(iter(valid.items()))
    if "PixelSpacing" in valid and _differ(spacing, valid["PixelSpacing"], _CONFLICT):
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
