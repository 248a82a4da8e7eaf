"""KNEEL's landmarks (arXiv 1907.12237) from a CSV, joined to crops by file, or by participant, side, visit.

Columns: ``file`` (or ``path``), or ``participant_id`` and ``side`` (and ``visit_month``); then ``x_T0, y_T0 …
x_F6, y_F6`` in pixels of the file as stored, not mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS, FloatArray
from kneerisk.releases.cells import ReleaseTable, number_of, side_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.records import KneeKey

_POINTS = tuple(f"{axis}_{name}" for name in LANDMARKS for axis in "XY")


@dataclass(slots=True)
class _Mark:
    line: int
    points: FloatArray
    """[16, 2] (x, y), source pixels."""
    used: bool = False


class Landmarks:
    """The table, read; :meth:`find` answers for a crop."""

    def __init__(self, path: Path | None, ledger: Ledger) -> None:
        """Read the table; none where ``path`` is ``None``.

        Raises:
            UsageError: a column is missing, or a cell is no number.
        """
        self._by_file: dict[str, list[_Mark]] = {}
        self._by_knee: dict[KneeKey, _Mark] = {}
        self._ledger = ledger
        self._section = "" if path is None else f"rows of {path.name}"
        if path is None:
            return
        table = ReleaseTable(path, _POINTS)
        file = next((name for name in ("FILE", "PATH") if name in table.columns), None)
        if file is None and not {"PARTICIPANT_ID", "SIDE"} <= set(table.columns):
            raise UsageError(f"{path}: it needs a column file, or the columns participant_id and side")
        for line, row in table:
            ledger.expect(self._section)
            numbers = [number_of(row[name]) for name in _POINTS]
            if any(number is None for number in numbers):
                raise UsageError(
                    f"{path}: line {line} has a landmark that is no number; mend it or take it out"
                )
            mark = _Mark(line, np.array(numbers, np.float32).reshape(len(LANDMARKS), 2))
            if file is not None:
                self._by_file.setdefault(row[file].replace("\\", "/"), []).append(mark)
                continue
            side, month = side_of(row["SIDE"]), number_of(row.get("VISIT_MONTH", "")) or 0
            key = KneeKey(row["PARTICIPANT_ID"], int(month), side or "R")
            if side is None or key in self._by_knee:
                why = "its side is not L or R" if side is None else "a second row of one knee and visit"
                ledger.add(self._section, f"left out: {why}", f"line {line}")
                continue
            self._by_knee[key] = mark

    def find(self, path: str, key: KneeKey, to_source: FloatArray, size: int) -> FloatArray | None:
        """Landmarks [16, 2] in pixels of a crop, float32; ``None`` where nobody marked it.

        Args:
            path: the radiograph's, relative to the release.
            key: whose knee it is.
            to_source: [2, 3], crop pixel → source pixel.
            size: pixels a side of the crop: of a file with two knees, a row belongs to the crop it lies in.
        """
        marks = [self._by_knee[key]] if key in self._by_knee else self._by_file.get(path, [])
        for mark in marks:
            points = to_crop(mark.points, to_source)
            middle = points.mean(axis=0)
            if not mark.used and bool((middle >= 0).all() and (middle < size).all()):
                mark.used = True
                return points
        return None

    def close(self) -> None:
        """Account for every row."""
        everything = [*self._by_knee.values(), *(m for marks in self._by_file.values() for m in marks)]
        for mark in sorted(everything, key=lambda m: m.line):
            outcome = "joined" if mark.used else "left out: no crop of this knee in the manifest"
            self._ledger.add(self._section, outcome, f"line {mark.line}")


def to_crop(points: FloatArray, to_source: FloatArray) -> FloatArray:
    """Source pixels [K, 2] → crop pixels, by the inverse of the crop's affine [2, 3]."""
    matrix: npt.NDArray[np.float64] = to_source.astype(np.float64)
    moved = (points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return moved.astype(np.float32)
