"""Publish a stack: export the networks, hash every file, put the folder in its place whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from kneerisk_engines.files import folder_whole, remove_folder, sha256_file
from kneerisk_engines.weights import WEIGHTS_NAME, replace_weights

from kneerisk.errors import StackError, UsageError
from kneerisk.method.calibration import Calibration
from kneerisk.stack.description import StackDescription, is_plain_name
from kneerisk.stack.find import STACK_FILE, available_stacks, came_along
from kneerisk.stack.stack import CALIBRATION_FILE, FORMAT, MODEL_CARD_FILE, OUTCOMES_FILE, Stack

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

TRAINING_FILE = "training.yaml"


def write_stack(
    folder: Path,
    description: StackDescription,
    modules: Mapping[str, nn.Module],
    *,
    calibration: Mapping[str, Any],
    model_card: str,
    training: str | None = None,
    overwrite: bool = False,
) -> Stack:
    """Export every component's trained module, publish the stack at ``folder``, and load it.

    ``modules`` has one module for each component of the description, weights and all; matrices and
    kernels are rounded to float16 in the file (see :func:`kneerisk_engines.weights.stored_form`), and
    those rounded values are the stack's weights for every backend. ``training`` is kept beside them as
    ``training.yaml``: what the networks were trained by and on. StackError where the folder exists
    (unless ``overwrite``) or the modules are not the description's; kneerisk_engines.ExportError where a
    module does not fit its spec.
    """
    from kneerisk_engines.export import export_components

    if set(modules) != set(description.components):
        raise StackError(
            f"modules for {sorted(modules)} are not the described components {sorted(description.components)}"
        )
    with _published(folder, overwrite=overwrite) as aside:
        export_components(
            aside, {name: (modules[name], entry.spec) for name, entry in description.components.items()}
        )
        _write_texts(aside, calibration, model_card)
        if training is not None:
            (aside / TRAINING_FILE).write_bytes(training.encode())
        _write_description(aside, description)
    return Stack.load(folder)


def import_stack(source: Path, root: Path, *, name: str | None = None, overwrite: bool = False) -> Path:
    """Copy a verified stack's folder into a folder of stacks, so that it is found by name; gives its place.

    Raises:
        UsageError: ``name`` is no plain name, such as a path.
        StackError: ``source`` is no whole stack, or the name is taken (unless ``overwrite``).
    """
    if name is not None and not is_plain_name(name):
        raise UsageError(
            f"--name {name!r}: a stack's name is no path; use letters, digits, '.', '-', '_' and '+'"
        )
    stack = Stack.load(source)
    # What scoring would stumble over is said now, and not on the night of the run.
    Calibration.from_mapping(stack.calibration())
    stack.model_card()
    stack.outcomes()
    place = root / (name or stack.name)
    if place.resolve() == stack.folder.resolve():
        raise StackError(f"{source} is in {root} already: score --stack {place.name} finds it")
    with _published(place, overwrite=overwrite) as aside:
        for file in [*stack.files, STACK_FILE]:
            shutil.copyfile(stack.folder / file, aside / file)
    Stack.load(place)
    return place


def revise_stack(
    stack: Stack,
    *,
    calibration: Mapping[str, Any] | None = None,
    model_card: str | None = None,
    outcomes: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Stack:
    """Publish a stack again in its place: same networks, another calibration, model card or description.

    ``outcomes`` are the equations of further outcomes (``Equations.to_json`` of studies).
    ``changes`` are fields of :class:`StackDescription`, such as ``version="0.2.0"`` or ``steps=12``.
    """
    if "components" in changes:
        raise StackError("a revision keeps the networks: write_stack publishes other components")
    with _published(stack.folder, overwrite=True) as aside:
        for name in stack.files:
            shutil.copyfile(stack.folder / name, aside / name)
        _write_texts(
            aside,
            stack.calibration() if calibration is None else calibration,
            stack.model_card() if model_card is None else model_card,
        )
        if outcomes is not None:
            text = json.dumps(outcomes, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            (aside / OUTCOMES_FILE).write_bytes(text.encode())
        _write_description(aside, replace(stack.description, **changes))
    return Stack.load(stack.folder)


def renew_component(
    source: Stack,
    folder: Path,
    component: str,
    weights: Mapping[str, npt.NDArray[np.float32]],
    *,
    model_card: str,
    training: str,
    overwrite: bool = False,
    **changes: Any,
) -> Stack:
    """Publish a stack with other weights of one component, all else as it was, byte by byte.

    Args:
        source: the stack.
        folder: where the new one goes.
        component: whose weights are new; its graph and settings stay.
        weights: float32 by name, without the component's prefix.
        model_card: the text of MODEL_CARD.md.
        training: of training.yaml.
        overwrite: replace a stack that is there.
        **changes: fields of :class:`StackDescription`, such as ``version``.

    Raises:
        StackError: the folder is there (unless ``overwrite``).
        kneerisk_engines.EngineError: the weights are not of the component's shapes.
    """
    with _published(folder, overwrite=overwrite) as aside:
        for name in source.files:
            shutil.copyfile(source.folder / name, aside / name)
        replace_weights(aside / WEIGHTS_NAME, component, weights)
        _write_texts(aside, source.calibration(), model_card)
        (aside / TRAINING_FILE).write_bytes(training.encode())
        _write_description(aside, replace(source.description, **changes))
    return Stack.load(folder)


def removable(name: str) -> Path:
    """The folder of one of the user's own stacks.

    Raises:
        StackError: there is none of that name, or it came with kneerisk.
    """
    known = available_stacks()
    if name not in known:
        own = ", ".join(one for one, folder in known.items() if not came_along(folder)) or "none"
        raise StackError(f"no stack is called {name!r}: your own are {own}")
    if came_along(known[name]):
        raise StackError(f"the stack {name} came with kneerisk, and goes only with it")
    return known[name]


def remove_stack(name: str) -> Path:
    """Take one of the user's own stacks away: renamed first, so that nobody finds half of it.

    Raises:
        StackError: see :func:`removable`.
    """
    folder = removable(name)
    remove_folder(folder)
    return folder


def _write_texts(folder: Path, calibration: Mapping[str, Any], model_card: str) -> None:
    text = json.dumps(calibration, indent=2, allow_nan=False) + "\n"
    (folder / CALIBRATION_FILE).write_bytes(text.encode())
    (folder / MODEL_CARD_FILE).write_bytes(model_card.encode())


def _write_description(folder: Path, description: StackDescription) -> None:
    """Hash all that lies in the folder into its ``stack.yaml``."""
    files = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.name != STACK_FILE}
    values = {"format": FORMAT, **description.to_plain(), "files": files}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)
    (folder / STACK_FILE).write_bytes(text.encode())


@contextmanager
def _published(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder aside to fill, which becomes ``folder`` whole or not at all."""
    folder = folder.absolute()
    if folder.exists() and not overwrite:
        raise StackError(f"{folder} exists: choose another folder, or ask to overwrite it")
    if folder.exists() and not (folder / STACK_FILE).is_file() and not _is_empty(folder):
        raise StackError(
            f"{folder} is no stack, and is not replaced by one: choose another name, or take it away first"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder_whole(folder) as aside:
        yield aside


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
