"""Whose the images are, told before they are scored: nobody's, or all of one and the same participant."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from kneerisk.radiograph.sources.candidates import shown
from kneerisk.radiograph.sources.sniff import HEAD_BYTES, sniff
from kneerisk.records import RadiographRef, Refusal

_FEWEST = 3
"""One participant may well have two images."""
_MOST_HEADERS = 1000
"""Headers that are looked into: enough to tell, and soon done where every one says the same."""


class Whose:
    """Looks on as a scan goes by, until two images are of different participants."""

    def __init__(self, id_from: str) -> None:
        self._id_from = id_from
        self._ids: set[str | None] = set()
        self._images = 0
        self._headers = 0

    def watch(self, items: Iterator[RadiographRef | Refusal]) -> Iterator[RadiographRef | Refusal]:
        """The items as they are; :meth:`doubt` speaks of those that went by."""
        for item in items:
            if isinstance(item, RadiographRef) and len(self._ids) < 2 and self._headers < _MOST_HEADERS:
                self._images += 1
                self._ids.add(item.participant_id or self._by_header(item.path))
            yield item

    def doubt(self) -> str | None:
        """Words for the user where ids tell no image from another; ``None`` where they do."""
        if self._images < _FEWEST or len(self._ids) != 1:
            return None
        if self._ids == {None}:
            return (
                f"none of the {self._images} images says whose it is: participant_id will be empty in every "
                "row. Take the ids from the folders (--id-from folder), from the paths (--id-from "
                "regex:PATTERN), or name them in a manifest"
            )
        if self._id_from == "folder":
            why = "--id-from folder takes the first folder below the input: give the folders that hold the "
            why += "participants', or a pattern (--id-from regex:PATTERN)"
        else:
            why = "where that is not so, take the ids from the folders (--id-from folder), from the paths "
            why += "(--id-from regex:PATTERN), or name them in a manifest"
        return f"all {self._images} images are of one and the same participant: {why}"

    def _by_header(self, path: Path) -> str | None:
        """PatientID, as far as a DICOM file has one; of other files none is read."""
        from pydicom import dcmread

        self._headers += 1
        try:
            with path.open("rb") as file:
                if sniff(file.read(HEAD_BYTES)) != "dicom":
                    self._headers -= 1
                    return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=["PatientID"])
                return shown(str(header.get("PatientID", ""))).strip() or None
        except Exception:  # what is wrong with a file, its row will say
            return None
