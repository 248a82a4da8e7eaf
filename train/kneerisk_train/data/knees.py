"""The knees of one split, in memory: crops in the right-knee frame with what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

UNGRADED = -1
"""Stands in :attr:`Knees.grade` where no grade is known."""


@dataclass(frozen=True)
class Knees:
    """N crops, bone bright, of S pixels a side, and their labels."""

    participant: npt.NDArray[np.str_]
    side: npt.NDArray[np.str_]
    month: npt.NDArray[np.int32]
    """[N], months since enrolment."""
    pixels: npt.NDArray[np.uint8]
    """[N, S, S]."""
    grade: npt.NDArray[np.int64]
    """[N], KL 0 to 4; ``UNGRADED`` where unknown."""
    landmarks: npt.NDArray[np.float32]
    """[N, 16, 2] (x, y) in crop pixels of the right-knee frame; NaN where nobody marked them."""
    spacing: npt.NDArray[np.float32]
    """[N, 2] (x, y) in mm per crop pixel; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.grade)

    @property
    def size(self) -> int:
        """Pixels a side of a crop."""
        return int(self.pixels.shape[1])

    @property
    def has_landmarks(self) -> npt.NDArray[np.bool_]:
        """[N]: whether the knee's landmarks are known."""
        known: npt.NDArray[np.bool_] = np.isfinite(self.landmarks[:, 0, 0])
        return known

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """[N]: whether a landmark's error can be told in millimetres."""
        known: npt.NDArray[np.bool_] = self.has_landmarks & np.isfinite(self.spacing[:, 0])
        return known

    @property
    def other(self) -> npt.NDArray[np.int64]:
        """[N]: the row of the same participant's other knee at the same visit; -1 where there is none."""
        keys = list(zip(self.participant, self.month, self.side, strict=True))
        place = {key: row for row, key in enumerate(keys)}
        across = {"L": "R", "R": "L"}
        found = [place.get((person, month, across.get(str(side), "")), -1) for person, month, side in keys]
        return np.array(found, np.int64)

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Knees:
        """Some of the knees, in the order of ``rows``."""
        return Knees(
            self.participant[rows],
            self.side[rows],
            self.month[rows],
            self.pixels[rows],
            self.grade[rows],
            self.landmarks[rows],
            self.spacing[rows],
        )

    def graded(self) -> Knees:
        """Those whose grade is known."""
        return self.take(self.grade != UNGRADED)

    def resized(self, size: int) -> Knees:
        """The same knees on ``size`` pixels a side."""
        if size == self.size:
            return self
        factor = np.float32(size / self.size)
        shrinks = size < self.size
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        pixels = np.stack([cv2.resize(crop, (size, size), interpolation=method) for crop in self.pixels])
        return replace(
            self,
            pixels=np.asarray(pixels, np.uint8),
            landmarks=(self.landmarks + np.float32(0.5)) * factor - np.float32(0.5),
            spacing=self.spacing / factor,
        )
