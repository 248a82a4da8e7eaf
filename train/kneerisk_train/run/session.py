"""One run of training: recipe, data, folder and devices; what every stage is given."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from kneerisk_engines.plain import to_plain

from kneerisk.errors import UsageError
from kneerisk_train.data.data import TrainingData

if TYPE_CHECKING:
    from kneerisk.stack.stack import Stack
    from kneerisk_train.run.recipe import Recipe

RECIPE_FILE = "recipe.yaml"
EQUATIONS_FILE = "equations.json"
INITIAL_FILE = "initial.json"


@dataclass(frozen=True)
class Session:
    """What a stage needs to know."""

    recipe: Recipe
    data: TrainingData
    out: Path
    """Weights, checkpoints, logs and pictures of all stages."""
    fabric: Any
    """Lightning Fabric: devices, mixed precision, the other processes."""
    initial: Stack | None = None
    """A published stack to start from."""
    checkpoint_seconds: float = 120.0
    """Between checkpoints."""
    started_from: Mapping[str, str] | None = None
    """Name and sha256 of the stack that the run's first ``--init`` named, whichever stage this is."""
    equations: Path | None = None
    """Of the outcome, for surrogate futures; ``None``: the shipped (:mod:`kneerisk_train.data.equations`)."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.fabric.device
        return device


def open_fabric(accelerator: str = "auto", precision: str = "auto") -> Any:
    """Start Fabric on this machine, or as one of ``torchrun``'s processes.

    Args:
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        precision: ``bf16``, ``fp16`` or ``fp32``; ``auto`` takes bf16 on a GPU or a CPU that has it.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UsageError("--accelerator cuda: torch finds no GPU here; leave it out to train on the CPU")
    on_gpu = accelerator == "cuda" or (accelerator == "auto" and torch.cuda.is_available())
    if precision == "auto":
        precision = usual_precision(on_gpu)
    names: dict[str, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", "fp32": "32-true"}
    if precision not in names:
        raise UsageError(f"--precision {precision}: known are auto, {', '.join(names)}")
    if precision == "fp16" and not on_gpu:
        raise UsageError("--precision fp16 needs a GPU: a CPU trains in bf16 or fp32")
    from lightning_fabric import Fabric

    if not on_gpu:
        _keep_freed_memory()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=local,
        num_nodes=int(os.environ.get("WORLD_SIZE", "1")) // local,
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
        precision=names[precision],
    )
    fabric.launch()
    return fabric


def usual_precision(on_gpu: bool) -> str:
    """``bf16`` where the hardware computes in it; else ``fp16`` on a GPU and ``fp32`` on a CPU.

    A CPU without bfloat16 emulates it: a step of stage 1 took about nine times as long as in float32.
    """
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def _keep_freed_memory() -> None:
    """Let the C library keep what is freed: giving it back to the system costs up to half the time."""
    import ctypes
    import sys

    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    for option, value in ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        mallopt(option, value)


def keep_recipe(recipe: Recipe, out: Path) -> None:
    """Store the resolved recipe in a run's folder, or check that it is the one stored there.

    Raises:
        UsageError: the run was begun with another recipe; names the first key that differs.
    """
    import yaml

    values = to_plain(recipe)
    path = out / RECIPE_FILE
    if path.exists():
        begun = yaml.safe_load(path.read_text(encoding="utf-8"))
        if begun != values:
            raise UsageError(
                f"{out} was begun with another recipe ({_first_difference(begun, values)}): "
                "go on with that one, or choose a new --out"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    aside.replace(path)


def keep_initial(initial: Stack | None, out: Path) -> dict[str, str] | None:
    """Note in a run's folder which stack it started from, or find the note; ``None``: from none.

    Raises:
        UsageError: the run was begun from another stack.
    """
    path = out / INITIAL_FILE
    noted: dict[str, str] | None = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if initial is None:
        return noted
    asked = {"stack": initial.name, "sha256": initial.sha256}
    if noted is not None and noted != asked:
        raise UsageError(
            f"{out} was begun from the stack {noted['stack']} ({noted['sha256'][:12]}…), not {initial.name}: "
            "go on with that one, or choose a new --out"
        )
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
    return asked


def keep_equations(given: Path | None, out: Path) -> Path | None:
    """Copy the outcome's equations into a run's folder, or find those it was begun with; ``None``: shipped.

    Raises:
        UsageError: the file cannot be read, or the run was begun with others.
    """
    kept = out / EQUATIONS_FILE
    if given is None:
        return kept if kept.exists() else None
    try:
        text = given.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--equations {given} cannot be read: {error}") from error
    if kept.exists() and kept.read_text(encoding="utf-8") != text:
        raise UsageError(f"{out} was begun with other equations: go on with those, or choose a new --out")
    aside = kept.with_suffix(".part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(kept)
    return kept


def fingerprint(*parts: object) -> str:
    """A short hash of plain values: what a checkpoint or a cache was made for."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _first_difference(begun: Any, now: Any, where: str = "") -> str:
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in sorted({*begun, *now}):
            if begun.get(key) != now.get(key):
                return _first_difference(begun.get(key), now.get(key), f"{where}.{key}" if where else key)
    return f"{where} was {begun!r}, is {now!r}"
