"""The training loop that every stage runs: mixed precision, averaged weights, exact resumes, a log to read.

A step depends on the recipe's seed, the stage, the step and the process alone: batches are made from a
generator of their own, and torch's is seeded anew before each step. So a killed run that goes on from its
checkpoint has the losses of one that was not killed, to the last digit on a CPU.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from kneerisk.errors import KneeriskError, UsageError
from kneerisk_train.run.recipe import OptimConfig
from kneerisk_train.run.session import Session, fingerprint
from kneerisk_train.run.training_log import Picture, TrainingLog

log = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)
Batch = tuple[Tensor, ...]
_REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class Stage:
    """What one stage trains, on what, and how it is judged."""

    name: str
    """Of its files: ``NAME.pt``, ``NAME.checkpoint.pt``, ``NAME.csv``."""
    module: nn.Module
    optim: OptimConfig
    batch: Callable[[int, np.random.Generator], Batch]
    """(step, its own generator) → the batch; called in threads, some steps ahead."""
    terms: Callable[[nn.Module, Batch], Mapping[str, Tensor]]
    """The weighted terms of the loss, each a scalar; called under autocast."""
    figures: Callable[[nn.Module], Mapping[str, float]] = lambda module: {}
    """What the averaged weights reach on val."""
    pictures: Callable[[nn.Module], Mapping[str, Picture]] = lambda module: {}
    """Pictures to look at, of the averaged weights."""
    figures_every: int = 0
    """Steps between figures and pictures; 0: only at the end."""
    forward_methods: tuple[str, ...] = field(default=())
    """Methods of the module, other than ``forward``, that ``terms`` calls."""
    finish: Callable[[nn.Module], None] = lambda module: None
    """What is done last to the averaged weights, in place, before they are written; figures are of before."""


def call(module: nn.Module, method: str, *arrays: Tensor) -> Any:
    """A method of a module that may be wrapped for several devices: one of ``Stage.forward_methods``."""
    return getattr(module, method)(*arrays)


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


def prefetch(
    make: Callable[[int], T], start: int, stop: int, ahead: int = 3, threads: int = 1
) -> Iterator[T]:
    """``make(step)`` for each step in order, made by threads while the caller computes."""
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[T]] = deque(
            pool.submit(make, step) for step in range(start, min(stop, start + ahead))
        )
        for step in range(start, stop):
            made = pending.popleft().result()
            if step + ahead < stop:
                pending.append(pool.submit(make, step + ahead))
            yield made


def optimiser(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW; norms and biases do not decay."""
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def seed_of(*parts: object) -> int:
    """A seed below 2**63 of plain values, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def fit(session: Session, stage: Stage) -> nn.Module:
    """Train a stage to its last step, from its checkpoint where there is one; returns the averaged weights.

    Writes, in the run's folder, the averaged weights (``NAME.pt``), every step's loss (``NAME.csv``),
    TensorBoard's events (``logs/``) and pictures (``pictures/NAME/``). Over several processes each computes
    a batch of the recipe's size, and the gradients are averaged.

    Raises:
        UsageError: the checkpoint found was made for another recipe or another number of processes.
        KneeriskError: the loss is no longer finite.
    """
    fabric, config = session.fabric, stage.optim
    bare = channels_last(stage.module)
    average = Average(bare, config.ema_decay)
    average.module.to(session.device)
    bare_optim = optimiser(bare, config)
    purpose = fingerprint(dataclass_values(session.recipe), session.data.splits_sha256, fabric.world_size)
    checkpoint = Checkpoint(session.out / f"{stage.name}.checkpoint.pt", bare, average, bare_optim, purpose)
    first = checkpoint.resume()
    weights = session.out / f"{stage.name}.pt"
    if config.steps == 0 and session.initial is None:
        raise UsageError(f"{stage.name}: 0 steps keep the weights that --init brings; give --init STACK")
    if first >= config.steps and weights.exists():
        log.info("%s: all %d steps are done", stage.name, config.steps)
        average.module.load_state_dict(trained_weights(session.out, stage.name))
        return average.module
    module, optim = fabric.setup(bare, bare_optim)
    for method in stage.forward_methods:
        module.mark_forward_method(method)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng(
            seed_of(session.recipe.seed, stage.name, "batch", step, fabric.global_rank)
        )
        return stage.batch(step, rng)

    with TrainingLog(session.out, stage.name, first, write=fabric.is_global_zero) as training_log:
        threads = session.recipe.loader_threads
        loaded = prefetch(batch, first, config.steps, ahead=2 * threads + 1, threads=threads)
        waited, began, told = 0.0, time.monotonic(), time.monotonic()
        for step in range(first, config.steps):
            asked = time.monotonic()
            arrays = tuple(fabric.to_device(array) for array in next(loaded))
            waited += time.monotonic() - asked
            torch.manual_seed(seed_of(session.recipe.seed, stage.name, "step", step, fabric.global_rank))
            module.train()
            with fabric.autocast():
                terms = stage.terms(module, arrays)
                loss = torch.stack([term.float() for term in terms.values()]).sum()
            rate = config.rate(step)
            for group in bare_optim.param_groups:
                group["lr"] = rate
            optim.zero_grad(set_to_none=True)
            fabric.backward(loss)
            fabric.clip_gradients(module, optim, max_norm=config.clip_norm, error_if_nonfinite=False)
            optim.step()
            average.update(bare, step)
            value = float(loss.detach())
            if not np.isfinite(value):
                raise KneeriskError(
                    f"{stage.name}: the loss is {value} at step {step}; lower its learning_rate or use "
                    "--precision fp32 (the checkpoint before it is kept)"
                )
            training_log.step(step, rate, value, {name: float(term.detach()) for name, term in terms.items()})
            if fabric.is_global_zero:
                checkpoint.save(step + 1, session.checkpoint_seconds)
            now, last = time.monotonic(), step + 1 == config.steps
            if now - told > _REPORT_SECONDS or last:
                told, pace = now, (now - began) / (step + 1 - first)
                log.info(
                    "%s %d/%d loss %.4f, %.2f s a step, %.0f%% of it waiting for data, %.0f min left",
                    *(stage.name, step + 1, config.steps, value, pace, 100 * waited / (now - began)),
                    pace * (config.steps - step - 1) / 60,
                )
            due = stage.figures_every and (step + 1) % stage.figures_every == 0
            if fabric.is_global_zero and (last or due):
                training_log.figures(step + 1, stage.figures(average.module), stage.pictures(average.module))
    if fabric.is_global_zero:
        if config.steps == 0:
            log.info("%s: 0 steps, kept as it began", stage.name)
        checkpoint.save(config.steps, 0.0)  # of before: a stage killed here is finished once, not twice
    stage.finish(average.module)
    if fabric.is_global_zero:
        _write_aside(weights, average.module.state_dict())
    fabric.barrier()
    return average.module


def dataclass_values(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    import dataclasses

    return json.loads(json.dumps(dataclasses.asdict(value)))


class Checkpoint:
    """One file that holds everything a killed training needs to go on as if it had not been."""

    def __init__(
        self,
        path: Path,
        module: nn.Module,
        average: Average,
        optim: torch.optim.AdamW,
        purpose: str = "",
    ):
        self.path, self.module, self.average, self.optim = path, module, average, optim
        self.purpose = purpose
        self._saved = time.monotonic()

    def resume(self) -> int:
        """Load the file if there is one; returns the step to go on from."""
        if not self.path.exists():
            return 0
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["purpose"] != self.purpose:
            raise UsageError(
                f"{self.path} was made for another recipe, other data or another number of processes: "
                "go on with those, or choose a new --out"
            )
        self.module.load_state_dict(state["module"])
        self.average.module.load_state_dict(state["average"])
        self.optim.load_state_dict(state["optim"])
        log.info("%s: going on from step %d", self.path.name, state["step"])
        return int(state["step"])

    def save(self, step: int, seconds: float) -> None:
        """Write aside and rename, if the last write is ``seconds`` ago; ``step`` is the next to run."""
        if seconds and time.monotonic() - self._saved < seconds:
            return
        state = {
            "module": self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "optim": self.optim.state_dict(),
            "purpose": self.purpose,
            "step": step,
        }
        _write_aside(self.path, state)
        self._saved = time.monotonic()


def trained_weights(out: Path, name: str) -> dict[str, Tensor]:
    """The averaged weights that a stage left in a run's folder.

    Raises:
        UsageError: the stage has not been trained there.
    """
    path = out / f"{name}.pt"
    if not path.exists():
        raise UsageError(f"{path} is missing: train the stage {name} first (kneerisk train {name})")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _write_aside(path: Path, state: Any) -> None:
    """Save whole or not at all; a full disk leaves what was there.

    Raises:
        KneeriskError: the file cannot be written.
    """
    aside = path.with_suffix(".writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except (OSError, RuntimeError) as error:
        aside.unlink(missing_ok=True)
        raise KneeriskError(
            f"{path} cannot be written ({error}); make room and run the same again"
        ) from error
