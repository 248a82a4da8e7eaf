"""How readers' grades are taken: as soft targets, and how often each grade is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

GRADES = 5


@dataclass(frozen=True)
class LabelConfig:
    """How a reader's grade, which another reader might not have given, becomes a target."""

    smoothing: float = 0.1
    """Probability lent to the neighbouring grades; 0 takes labels as they are."""
    smoothing_kl1: float = 0.2
    """The same for KL 1, the least reliable label."""
    ordinal_weight: float = 1.0
    """Weight of the squared distance between cumulative distributions: far errors cost more than near."""
    balance: float = 0.0
    """Against the imbalance of classes: a grade's knees are drawn as often as its share to the power
    1 - balance; 0 draws them as they come, 1 every grade as often."""

    def __post_init__(self) -> None:
        for name in ("smoothing", "smoothing_kl1", "balance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, not {getattr(self, name)}")


def draw_chances(grade: npt.NDArray[np.int64], balance: float) -> npt.NDArray[np.float64]:
    """How often each knee is drawn, [N], summing to one: see :attr:`LabelConfig.balance`."""
    counts = np.bincount(grade[grade >= 0], minlength=GRADES).astype(np.float64)
    weight = np.where(grade >= 0, np.maximum(counts, 1)[grade.clip(min=0)] ** -balance, 1.0)
    return np.asarray(weight / weight.sum())
