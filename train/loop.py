"""What the training scripts share: soft targets, averaged weights, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.recipe import OptimConfig

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
CHECKPOINT_SECONDS = 120.0


def soft_grades(grade: Tensor, smoothing: float) -> Tensor:
    """KL grades int64 [B] → target distributions [B, 5] that lend probability to the neighbouring grades.

    Readers differ by one grade, seldom by more; KL 1 is their least reliable, so it lends twice as much.
    """
    lent = torch.where(grade == 1, 2 * smoothing, smoothing)
    target = torch.zeros(len(grade), 5)
    rows = torch.arange(len(grade))
    target[rows, grade] = 1 - lent
    inner = (grade > 0) & (grade < 4)
    target[rows, (grade - 1).clamp(min=0)] += torch.where(inner, lent / 2, torch.where(grade == 4, lent, 0.0))
    target[rows, (grade + 1).clamp(max=4)] += torch.where(inner, lent / 2, torch.where(grade == 0, lent, 0.0))
    return target


def grade_loss(logits: Tensor, target: Tensor, ordinal_weight: float) -> Tensor:
    """Cross-entropy of grades plus their squared earth mover's distance (arXiv 1611.05916).

    Args:
        logits: float32 [B, 5].
        target: [B, 5], distributions over the grades.
        ordinal_weight: of the second term; 0 leaves the cross-entropy.
    """
    carried = (logits.softmax(dim=1) - target).cumsum(dim=1)
    return F.cross_entropy(logits, target) + ordinal_weight * carried.square().sum(dim=1).mean()


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


def channels_last(module: M) -> M:
    """The module with its kernels laid out for channels-last convolutions."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class Average:
    """Exponential moving average of a module's parameters and buffers, warmed up over the first steps."""

    def __init__(self, module: nn.Module, decay: float):
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's values after ``step`` (from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for mean, value in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, latest in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(latest)


def prefetch(make: Callable[[int], T], start: int, stop: int, ahead: int = 3) -> Iterator[T]:
    """``make(step)`` for each step in order, made by one thread while the caller computes."""
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(make, step) for step in range(start, min(stop, start + ahead))]
        for step in range(start, stop):
            batch = pending.pop(0).result()
            if step + ahead < stop:
                pending.append(pool.submit(make, step + ahead))
            yield batch


def optimiser(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW; norms and biases do not decay."""
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def descend(
    loss: Tensor, module: nn.Module, optim: torch.optim.AdamW, config: OptimConfig, step: int
) -> None:
    """One clipped step down the gradient at the schedule's rate."""
    for group in optim.param_groups:
        group["lr"] = config.rate(step)
    optim.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip_norm)
    optim.step()


class Checkpoint:
    """One file that holds everything a killed training needs to go on as if it had not been."""

    def __init__(self, path: Path, module: nn.Module, average: Average, optim: torch.optim.AdamW):
        self.path, self.module, self.average, self.optim = path, module, average, optim
        self._saved = time.monotonic()

    def resume(self) -> int:
        """Load the file if there is one; returns the step to go on from."""
        if not self.path.exists():
            return 0
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["module"])
        self.average.module.load_state_dict(state["average"])
        self.optim.load_state_dict(state["optim"])
        torch.set_rng_state(state["rng"])
        return int(state["step"])

    def save(self, step: int, *, due_only: bool = True) -> None:
        """Write aside and rename, if the last write is long enough ago; ``step`` is the next to run."""
        if due_only and time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".writing")
        state = {
            "module": self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "optim": self.optim.state_dict(),
            "rng": torch.get_rng_state(),
            "step": step,
        }
        with aside.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self.path)
        self._saved = time.monotonic()
