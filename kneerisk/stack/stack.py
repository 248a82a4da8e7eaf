"""A stack on disk: the networks that score a knee, with their weights, recipe, calibration and model card.

    <stack>/stack.yaml            what it is, what each component takes and gives, the SHA-256 of every file
            weights.safetensors   the one copy of the weights, ``component.parameter``
            <component>.onnx      graphs without weights, which point into that file (so they lie beside it)
            calibration.json      raw risk → probability, with its population
            outcomes.json         equations of further outcomes, with theirs (a stack may lack it)
            MODEL_CARD.md

A stack is verified when it is loaded, and its ``sha256`` stands in every row that it scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kneerisk_engines.files import sha256_file
from kneerisk_engines.weights import WEIGHTS_NAME, graph_file

from kneerisk.errors import StackError
from kneerisk.stack.components import StackComponent
from kneerisk.stack.description import StackDescription, is_plain_name
from kneerisk.stack.find import STACK_FILE, find_stack
from kneerisk.stack.texts import (
    FETCH,
    MOST_YAML_BYTES,
    parse_yaml,
    read_bytes,
    read_json,
    read_text,
    shortened,
)

FORMAT = 1
CALIBRATION_FILE = "calibration.json"
OUTCOMES_FILE = "outcomes.json"
MODEL_CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack whose every file was found and verified."""

    folder: Path
    description: StackDescription
    files: Mapping[str, str]
    """SHA-256 of each file that ``stack.yaml`` lists, by name."""
    sha256: str
    """Of the whole: over the names and hashes of all files, ``stack.yaml`` among them."""

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Find a stack by name or path and verify it; StackError names the file and the fix."""
        folder = find_stack(name_or_path)
        path = folder / STACK_FILE
        content = read_bytes(path, MOST_YAML_BYTES)
        values = parse_yaml(content, path)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            found = shortened(repr(found), 40)
            raise StackError(
                f"{path} has format {found}; this version of kneerisk reads format {FORMAT}: "
                "use the kneerisk version that wrote it, or a stack made for this one"
            )
        files = values.pop("files", None)
        values.pop("format")
        try:
            description = StackDescription.from_plain(values, STACK_FILE)
        except (ValueError, OverflowError, RecursionError) as error:
            raise StackError(
                f"{path} is not a valid stack: {shortened(error)}. {FETCH.capitalize()}"
            ) from error
        _verify(folder, files, description)
        return cls(
            folder,
            description,
            files,
            stack_sha256({**files, STACK_FILE: hashlib.sha256(content).hexdigest()}),
        )

    @property
    def name(self) -> str:
        """As ``stack.yaml`` says, with the version: ``compact-0.1.0``."""
        return f"{self.description.name}-{self.description.version}"

    def calibration(self) -> dict[str, Any]:
        """Read ``calibration.json``."""
        return read_json(self.folder / CALIBRATION_FILE)

    def outcomes(self) -> dict[str, Any] | None:
        """Read ``outcomes.json``; ``None`` where the stack has none."""
        if OUTCOMES_FILE not in self.files:
            return None
        return read_json(self.folder / OUTCOMES_FILE)

    def model_card(self) -> str:
        """Read ``MODEL_CARD.md``."""
        return read_text(self.folder / MODEL_CARD_FILE)

    def component(self, name: str) -> StackComponent:
        """One component's entry; StackError where the stack has none of that name."""
        try:
            return self.description.components[name]
        except KeyError:
            has = ", ".join(self.description.components)
            raise StackError(f"stack {self.name} has no component {name!r}; it has {has}") from None

    def graph(self, component: str) -> Path:
        """Where a component's graph lies, its weights beside it."""
        return self.folder / graph_file(component)


def stack_sha256(files: Mapping[str, str]) -> str:
    """One hash over all files' names and hashes, in the order of their names."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def _verify(folder: Path, files: object, description: StackDescription) -> None:
    if not isinstance(files, dict) or not all(isinstance(v, str) for pair in files.items() for v in pair):
        raise StackError(f"{folder / STACK_FILE} lists no files with their SHA-256: {FETCH}")
    needed = {WEIGHTS_NAME, CALIBRATION_FILE, MODEL_CARD_FILE, *map(graph_file, description.components)}
    if unlisted := sorted(needed - set(files)):
        raise StackError(f"{folder / STACK_FILE} does not list {', '.join(unlisted)}: {FETCH}")
    for name, expected in files.items():
        if not is_plain_name(name):
            raise StackError(
                f"{folder / STACK_FILE} lists {shortened(repr(name), 80)}: a stack's files lie in its own "
                "folder, and their names hold letters, digits, '.', '-', '_' and '+'"
            )
        path = folder / name
        if not path.is_file():
            raise StackError(f"{path} is missing: {FETCH}")
        found = sha256_file(path)
        if found != expected:
            raise StackError(
                f"{path} is damaged or was changed (SHA-256 {found[:12]}…, not {expected[:12]}…): {FETCH}"
            )
