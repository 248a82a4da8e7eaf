"""Whom a trial enrols: by a threshold, the highest so many, a share, or a recruitment target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError

Array = npt.NDArray[np.float64]
Kind = Literal["threshold", "top", "top-fraction", "recruit"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to say whom to enrol; checked when it is made."""

    kind: Kind
    value: float
    """A risk, a number of candidates, a share, or the number to be enrolled."""
    screen: int | None = None
    """With ``recruit``: how many candidates like these will be screened; ``None``: these themselves."""

    def __post_init__(self) -> None:
        if self.kind == "threshold" and not np.isfinite(self.value):
            raise UsageError(f"--threshold is a risk, such as 0.1; got {self.value}")
        if self.kind == "top-fraction" and not 0 < self.value <= 1:
            raise UsageError(f"--top-fraction is a share above 0, up to 1; got {self.value}")
        if self.kind in ("top", "recruit") and self.value < 1:
            raise UsageError(f"--{self.kind} must be at least 1; got {self.value:g}")
        if self.screen is not None:
            if self.kind != "recruit":
                raise UsageError("--screen says how many --recruit is drawn from: give both, or neither")
            if self.screen < self.value:
                raise UsageError(f"--recruit {self.value:g} of --screen {self.screen}: fewer than are wanted")

    @property
    def number(self) -> int | None:
        """Of candidates to select from these; ``None`` where the rule names none."""
        return round(self.value) if self.kind in ("top", "recruit") and self.screen is None else None

    def threshold(self, risk: Array) -> float:
        """The risk at and above which a candidate is enrolled.

        Candidates that tie with the last one enrolled are enrolled too: nothing in the table would choose
        between them.

        Args:
            risk: [N] of the candidates, N at least 1.

        Raises:
            UsageError: more are wanted than there are.
        """
        if self.kind == "threshold":
            return self.value
        total = len(risk)
        wanted = round(self.value)
        if self.kind == "top-fraction":
            wanted = max(1, round(self.value * total))
        elif self.screen is not None:
            wanted = max(1, round(self.value / self.screen * total))
        if wanted > total:
            remedy = (
                f"; name how many will be screened: --recruit {wanted} --screen N"
                if self.kind == "recruit"
                else ""
            )
            raise UsageError(f"--{self.kind} {wanted}, but there are only {total} candidates{remedy}")
        return float(np.partition(risk, total - wanted)[total - wanted])

    def words(self) -> str:
        """As a sentence names it."""
        if self.kind == "threshold":
            return f"everybody at or above {self.value:g}"
        if self.kind == "top":
            return f"the {self.value:.0f} at the highest risk"
        if self.kind == "top-fraction":
            return f"the {100 * self.value:g} % at the highest risk"
        if self.screen is None:
            return f"the {self.value:.0f} to be recruited at the highest risk"
        return f"as many as recruit {self.value:.0f} of {self.screen} screened"


SHARES = (*(share / 100 for share in range(100, 5, -5)), 0.075, 0.05, 0.03, 0.02, 0.01)
"""Of the candidates, from everybody to the highest hundredth: the curve's places."""


def curve_thresholds(risk: Array, also: float | None = None) -> Array:
    """Thresholds of the curve, ascending, without repeats; ``also`` is among them.

    Args:
        risk: [N], N at least 1.
        also: a rule's own threshold.
    """
    ordered = np.sort(risk)[::-1]
    places = [max(1, round(share * len(risk))) - 1 for share in SHARES]
    found = {float(ordered[place]) for place in places}
    if also is not None:
        found.add(also)
    return np.array(sorted(found))
