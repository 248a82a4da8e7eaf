"""Soft targets and the terms of the losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

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


def soft_grades(grade: Tensor, labels: LabelConfig) -> Tensor:
    """KL grades int64 [B] → target distributions [B, 5] that lend probability to the neighbouring grades.

    Readers differ by one grade, seldom by more; KL 1 is their least reliable.
    """
    lent = torch.where(grade == 1, float(labels.smoothing_kl1), float(labels.smoothing))
    target = torch.zeros(len(grade), GRADES, device=grade.device)
    rows = torch.arange(len(grade), device=grade.device)
    target[rows, grade] = 1 - lent
    inner = (grade > 0) & (grade < 4)
    target[rows, (grade - 1).clamp(min=0)] += torch.where(inner, lent / 2, torch.where(grade == 4, lent, 0.0))
    target[rows, (grade + 1).clamp(max=4)] += torch.where(inner, lent / 2, torch.where(grade == 0, lent, 0.0))
    return target


def grade_loss(logits: Tensor, grade: Tensor, labels: LabelConfig) -> Tensor:
    """Cross-entropy of soft grades plus their squared earth mover's distance (arXiv 1611.05916).

    Args:
        logits: float32 [B, 5].
        grade: int64 [B], 0 to 4; knees of a negative one count for nothing.
        labels: how soft the targets are, and the weight of the second term.
    """
    known = grade >= 0
    target = soft_grades(grade.clamp(min=0), labels)
    carried = (logits.softmax(dim=1) - target).cumsum(dim=1).square().sum(dim=1)
    each = F.cross_entropy(logits, target, reduction="none") + labels.ordinal_weight * carried
    return (each * known).sum() / known.sum().clamp(min=1)


def landmark_loss(predicted: Tensor, known: Tensor, size: int) -> Tensor:
    """Mean L1 distance over the marked knees, in units of 4 px; zero where none is marked.

    Args:
        predicted: float32 [B, 16, 2] in crop pixels.
        known: the same, NaN where a knee is not marked.
        size: crop pixels a side; points that augmentation moved outside do not count.
    """
    counts = known.isfinite() & (known >= 0).all(-1, keepdim=True) & (known < size).all(-1, keepdim=True)
    distance = (predicted - known.nan_to_num()).abs() / 4.0
    return (distance * counts).sum() / counts.sum().clamp(min=1)


def draw_chances(grade: npt.NDArray[np.int64], balance: float) -> npt.NDArray[np.float64]:
    """How often each knee is drawn, [N], summing to one: see :attr:`LabelConfig.balance`."""
    counts = np.bincount(grade[grade >= 0], minlength=GRADES).astype(np.float64)
    weight = np.where(grade >= 0, np.maximum(counts, 1)[grade.clip(min=0)] ** -balance, 1.0)
    return np.asarray(weight / weight.sum())
