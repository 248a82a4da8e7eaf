"""What puts a whole table in doubt: a cohort unlike the one that the stack was trained and calibrated on.

Each alarm is one sentence that says what was seen and what to do.  The limits are ours: wide enough that
knees like the training cohort's raise none, narrow enough that those of another make of film, or a run whose
networks see nothing, do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kneerisk.method.calibration import Calibration
from kneerisk.method.predict import UNUSUAL_APPEARANCE
from kneerisk.records import KL_GRADES

FEWEST = 30
"""Fewer scored knees than this tell nothing of a cohort."""
_UNUSUAL = 0.05
"""Share of knees flagged ``unusual-appearance``; a thousandth of the training knees are."""
_NOVELTY = 1.25
"""Mean novelty, times the fitting knees'."""
_MIX = 0.35
"""Share of knees that would have to change grade for the mix to be the fitting knees'."""
_RISK = 2.0
"""Mean risk from the image, as so many times the fitting knees', or so many times less."""
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Alarm:
    """One reason to doubt a table."""

    code: str
    message: str


@dataclass(slots=True)
class Looks:
    """What a run's scored knees look like."""

    knees: int = 0
    unusual: int = 0
    novelty: float = 0.0
    """Sum over the knees."""
    risk: float = 0.0
    """Sum of ``risk_12m_image``."""
    grades: list[int] = field(default_factory=lambda: [0] * len(KL_GRADES))
    """Knees by the image's grade."""
    _least: float = float("inf")
    _most: float = -float("inf")
    _inputs: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a scored row."""
        self.knees += 1
        self.unusual += UNUSUAL_APPEARANCE in row["qc_flags"]
        self.novelty += row["novelty"]
        self.risk += row["risk_12m_image"]
        self.grades[row["kl_now"]] += 1
        self._least = min(self._least, row["risk_12m_image"])
        self._most = max(self._most, row["risk_12m_image"])
        if len(self._inputs) < FEWEST:
            self._inputs.add(f"{row['input_sha256']}{row['side']}")

    def alarms(self, calibration: Calibration) -> tuple[Alarm, ...]:
        """All that hold, the gravest first."""
        found = []
        if len(self._inputs) > 2 and self._most - self._least < _SAME:
            found.append(
                Alarm(
                    "same-risk",
                    f"all {self.knees} knees got the same risk: the networks do not see these images; look "
                    "at a few with --previews, and do not use the table",
                )
            )
        usual = calibration.usual
        if usual is None or self.knees < FEWEST:
            return tuple(found)
        share, novelty, risk = (total / self.knees for total in (self.unusual, self.novelty, self.risk))
        if share > _UNUSUAL:
            found.append(
                Alarm(
                    "unusual-appearance",
                    f"{share:.0%} of the knees look unlike those that the stack was trained on (usual: under "
                    "1 %): their grades and risks may be off; check some against a reader before any use",
                )
            )
        elif novelty > _NOVELTY * usual.novelty:
            found.append(
                Alarm(
                    "novelty",
                    f"the knees look, on average, unlike those that the stack was trained on (novelty "
                    f"{novelty:.2f}, there {usual.novelty:.2f}): check some grades against a reader before "
                    "any use",
                )
            )
        shares = [count / self.knees for count in self.grades]
        moved = sum(abs(a - b) for a, b in zip(shares, usual.grades, strict=True)) / 2
        if moved > _MIX:
            mix, there = (" / ".join(f"{v:.0%}" for v in values) for values in (shares, usual.grades))
            found.append(
                Alarm(
                    "grades",
                    f"the mix of grades 0 to 4, {mix}, is not that of the population which the risks are "
                    f"calibrated to ({there}): if the cohort was not selected for it, the grades are off",
                )
            )
        if not usual.risk / _RISK <= risk <= usual.risk * _RISK:
            found.append(
                Alarm(
                    "mean-risk",
                    f"the mean risk from the images, {risk:.1%}, is far from the population's "
                    f"{usual.risk:.1%}: recalibrate on readers' grades of this cohort before reading a risk "
                    "as a probability",
                )
            )
        return tuple(found)
