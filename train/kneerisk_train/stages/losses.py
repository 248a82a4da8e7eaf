"""Soft targets and the terms of the losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kneerisk_train.data.labels import GRADES, LabelConfig


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


def grade_loss(
    logits: Tensor, grade: Tensor, labels: LabelConfig, taught: Tensor | None = None, share: float = 0.0
) -> Tensor:
    """Cross-entropy of soft grades plus their squared earth mover's distance (arXiv 1611.05916).

    Args:
        logits: float32 [B, 5].
        grade: int64 [B], 0 to 4; knees of a negative one count for nothing.
        labels: how soft the targets are, and the weight of the second term.
        taught: float32 [B, 5], a teacher's posterior.
        share: of ``taught`` in the target; the reader's grade, softened, is the rest.
    """
    known = grade >= 0
    target = soft_grades(grade.clamp(min=0), labels)
    if taught is not None:
        target = torch.lerp(target, taught, share)
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


def steadiness_loss(logits: Tensor) -> Tensor:
    """Mean squared earth mover's distance of the grades read off two exposures of each knee.

    Args:
        logits: float32 [2B, 5]; row i and row B + i are of one knee.
    """
    first, second = logits.softmax(dim=1).chunk(2)
    return (first - second).cumsum(dim=1).square().sum(dim=1).mean()


def stillness_loss(latents: Tensor) -> Tensor:
    """How far exposure moves a latent, as a share of how far two knees' latents lie apart, in mean squares.

    A share, because a bare distance is least where all latents are one.

    Args:
        latents: float32 [2B, C, h, w], B at least 2; row i and row B + i are of one knee.
    """
    first, second = latents.chunk(2)
    moved = (first - second).square().mean()
    apart = (first - second.roll(1, dims=0)).square().mean()
    return moved / apart.clamp(min=1e-6)
