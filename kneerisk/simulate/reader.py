"""A simulated reader: how a true grade becomes the grade that stands in a table.

The visits of a knee are read side by side by one reader, as the OAI's main project did, so an error is one of
the knee and its reader, not of the visit: a reader who is unsure of a grade puts it one too high or too low
at every visit that shows it.  Grades read so never fall.  Two readers of one knee differ in about 12 % of
readings, in a quarter of them at KL 1 (``MISREAD``); another reading project is another reader.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MISREAD = (0.07, 0.16, 0.065, 0.05, 0.08)
"""Share of knees of true grades 0 to 4 whose reader errs; at 0 and 4 half the errors have nowhere to go."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader before one knee."""

    doubt: float
    """In 0..1: the reader errs at grades whose ``MISREAD`` is above it."""
    upwards: bool
    """Which way the error goes."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Reader:
        """A reader at random."""
        return cls(float(rng.random()), bool(rng.random() < 0.5))

    def read(self, grade: int) -> int:
        """The grade that is written down for a true ``grade`` of 0 to 4."""
        if self.doubt >= MISREAD[grade]:
            return grade
        return min(grade + 1, 4) if self.upwards else max(grade - 1, 0)
