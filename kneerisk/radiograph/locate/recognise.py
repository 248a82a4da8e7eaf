"""Images that are already one knee's crop, as Chen's are: recognised, and scored as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

from kneerisk.radiograph.locate.crop import JOINT_IN_CROP, WIDTH_IN_CROP
from kneerisk.radiograph.locate.peaks import Found
from kneerisk.records import Radiograph, Side

_ASPECT = 1.3
"""Most that a crop may differ from a square."""
_WIDTHS: Final = (WIDTH_IN_CROP - 0.12, 1.15)
"""The joint's width as a share of a crop's: a knee fills its frame."""
_OFF_MIDDLE = 0.14
"""Most that a crop's joint lies off the place where crops have it, as a share of the side."""
_FIELD_MM: Final = (70.0, 125.0)
"""Millimetres a side of a crop; a larger film that a knee seems to fill is no crop."""

# An L or R that ends a name ("9000099L", "p12_R") or stands alone in it ("knee-L-00m"), or the word.
_SUFFIX = re.compile(
    r"(?<![A-Za-z])([LR])$|(?:^|[ _.\-])(?:([LR])|(left|right)|(?:lt|rt))(?=$|[ _.\-])", re.IGNORECASE
)


def is_cropped_knee(radiograph: Radiograph, found: Sequence[Found]) -> bool:
    """Whether the image is one knee that fills a nearly square frame, of a crop's size if that is known."""
    height, width = radiograph.pixels.shape
    if len(found) != 1 or max(height, width) > _ASPECT * min(height, width):
        return False
    knee = found[0]
    if not _WIDTHS[0] <= knee.width / width <= _WIDTHS[1]:
        return False
    across = JOINT_IN_CROP[0] if knee.looks == "R" else 1 - JOINT_IN_CROP[0]
    if abs(knee.x / width - across) > _OFF_MIDDLE or abs(knee.y / height - JOINT_IN_CROP[1]) > _OFF_MIDDLE:
        return False
    if radiograph.spacing_mm is None:
        return True
    extents = (height * radiograph.spacing_mm[0], width * radiograph.spacing_mm[1])
    return all(_FIELD_MM[0] <= extent <= _FIELD_MM[1] for extent in extents)


def side_from_name(source_path: str) -> Side | None:
    """The side that a file's name ends in or spells out; None where it names none, or both."""
    stem = PurePath(source_path).stem if PurePath(source_path).suffix else PurePath(source_path).name
    sides: set[Side] = set()
    for match in _SUFFIX.finditer(stem):
        sides.add("L" if match.group(0).strip(" _.-").lower().startswith("l") else "R")
    return sides.pop() if len(sides) == 1 else None
