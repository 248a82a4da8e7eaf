"""The stages by name, in order, and the session that they share."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

import torch

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack
from kneerisk_train.data.data import open_data
from kneerisk_train.run.recipe import load_recipe
from kneerisk_train.run.session import Session, keep_equations, keep_initial, keep_recipe, open_fabric

STAGES = ("teacher", "vqvae", "decoder", "diffusion", "classifier", "localiser")
_MODULES = {"teacher": "stage1.teacher", "vqvae": "stage1.learn", "decoder": "stage1.decoder"}


def open_session(
    data: Path,
    out: Path,
    recipe: str,
    *,
    init: str | None = None,
    rates: Path | None = None,
    equations: Path | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    checkpoint_seconds: float = 120.0,
    log_name: str = "train",
) -> Session:
    """Read recipe and data, start the devices, and open the run's folder.

    Args:
        data: what ``kneerisk prepare`` wrote.
        out: the run's folder; one that was begun keeps its recipe and its splits.
        recipe: a shipped recipe's name, or a YAML file.
        init: a published stack to start from.
        rates: see :func:`kneerisk_train.data.data.open_data`.
        equations: of the outcome, for surrogate futures; the shipped ones where not given.
        accelerator: see :func:`kneerisk_train.run.session.open_fabric`.
        precision: see :func:`kneerisk_train.run.session.open_fabric`.
        checkpoint_seconds: between checkpoints.
        log_name: of the log file in ``out``.

    Raises:
        UsageError: recipe, data, folder and devices do not fit; says which and what to do.
    """
    resolved = load_recipe(recipe)
    initial = None if init is None else Stack.load(init)
    fabric = open_fabric(accelerator, precision)
    if not fabric.is_global_zero:
        fabric.barrier()  # the first process writes recipe and splits, the others find them
    keep_recipe(resolved, out)
    kept, started = keep_equations(equations, out), keep_initial(initial, out)
    _log_to(out / f"{log_name}.log", quiet=not fabric.is_global_zero)
    if fabric.device.type == "cpu":
        torch.set_num_threads(max(1, resolved.threads // fabric.world_size))
    opened = open_data(data, resolved.split, resolved.crop_size, out, rates)
    if fabric.is_global_zero:
        fabric.barrier()
    return Session(resolved, opened, out, fabric, initial, checkpoint_seconds, started, kept)


def run(name: str, session: Session) -> None:
    """Train one stage, or ``all`` of the recipe's."""
    recipe = session.recipe
    optional = {"teacher": recipe.teacher, "decoder": recipe.decoder, "localiser": recipe.localiser}
    wanted = [stage for stage in STAGES if optional.get(stage, stage) is not None]
    if name != "all":
        if name not in STAGES:
            raise UsageError(f"no stage {name!r}: known are {', '.join(STAGES)} and all")
        if name not in wanted:
            raise UsageError(f"the recipe {recipe.name} has no stage {name}: add the key {name!r} to it")
        wanted = [name]
    for stage in wanted:
        importlib.import_module(f"kneerisk_train.stages.{_MODULES.get(stage, stage)}").train(session)


def _log_to(path: Path, *, quiet: bool) -> None:
    """What the stages report, to the screen and into the run's folder; of one process of several."""
    reports = logging.getLogger("kneerisk_train")
    reports.propagate = False
    reports.setLevel(logging.INFO)
    for old in list(reports.handlers):
        reports.removeHandler(old)
        old.close()
    if quiet:
        reports.addHandler(logging.NullHandler())
        return
    for handler in (logging.StreamHandler(), logging.FileHandler(path, encoding="utf-8")):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        reports.addHandler(handler)
    # The exporter warns once a component that torchvision, which no network here uses, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
