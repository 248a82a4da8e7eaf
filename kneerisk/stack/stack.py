"""A stack on disk: the networks that score a knee, with their weights, recipe, calibration and model card.

    <stack>/stack.yaml            what it is, what each component takes and gives, the SHA-256 of every file
            weights.safetensors   the one copy of the weights, ``component.parameter``
            <component>.onnx      graphs without weights, which point into that file (so they lie beside it)
            calibration.json      raw risk → probability, with its population
            MODEL_CARD.md

A stack is verified when it is loaded, and its ``sha256`` stands in every row that it scores.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import yaml
from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.spec import ComponentSpec

from kneerisk.errors import NoEngineError, StackError

if TYPE_CHECKING:
    from kneerisk_engines.runner import AskedPrecision, Runner
    from torch import nn

FORMAT = 1
RECIPE_FILE = "stack.yaml"
CALIBRATION_FILE = "calibration.json"
MODEL_CARD_FILE = "MODEL_CARD.md"
STACKS_VARIABLE = "KNEERISK_STACKS"
DISTILLED = "unet_distilled"
"""The optional component that forecasts in few steps what ``unet`` does in many."""


@dataclass(frozen=True, slots=True)
class StackComponent:
    """One network of a stack."""

    spec: ComponentSpec
    terms: str
    """The licence and terms of its weights, as a sentence."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What ``kneerisk.models.build(component, config)`` needs to build the module."""
    float32_only: bool = False
    """Whether it always runs in float32, whatever is asked: where rounding may flip a choice of code."""


@dataclass(frozen=True, slots=True)
class StackDescription:
    """What ``stack.yaml`` says, the files' hashes aside."""

    name: str
    version: str
    summary: str
    """One line: what it is, and of which data."""
    crop_size: int
    """Pixels a side of the square crop that the encoder sees."""
    field_of_view_mm: float
    """Millimetres a side of that crop."""
    latent_shape: tuple[int, int, int]
    """Channels, height, width of a knee's latent."""
    steps: int
    """Sampler steps a future, unless the user asks for others."""
    samples: int
    """Futures of each knee, unless the user asks for others."""
    micro_batch: int
    """Items a network call holds, always: a row must not depend on its neighbours."""
    grade_zooms: tuple[float, ...]
    """Zooms of the crop at which the grade now is read (:mod:`kneerisk.method.views`); the first is 1."""
    components: Mapping[str, StackComponent]
    distilled_steps: int | None = None
    """Steps in which the component ``unet_distilled`` forecasts; ``None`` where the stack has none."""
    usual_forecaster: str = "unet"
    """The U-Net that forecasts unless asked otherwise: ``unet_distilled`` where that is near enough."""

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier():
            raise ValueError(f"name {self.name!r}: use letters, digits, '-' and '_'")
        for number in ("crop_size", "field_of_view_mm", "steps", "samples", "micro_batch"):
            value = getattr(self, number)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{number} {value!r} must be a number above 0")
        if len(self.latent_shape) != 3 or any(not isinstance(n, int) or n < 1 for n in self.latent_shape):
            raise ValueError(f"latent_shape {self.latent_shape!r} must be three whole numbers of at least 1")
        if self.grade_zooms[:1] != (1,) or not all(0.5 <= zoom <= 2 for zoom in self.grade_zooms):
            raise ValueError(f"grade_zooms {self.grade_zooms!r} must start with 1 and lie in 0.5..2")
        if not self.components:
            raise ValueError("components: a stack holds at least one")
        if self.distilled_steps is not None and not 1 <= self.distilled_steps < self.steps:
            raise ValueError(f"distilled_steps {self.distilled_steps!r} must lie below steps, {self.steps}")
        if (self.distilled_steps is None) != (DISTILLED not in self.components):
            raise ValueError(f"distilled_steps and the component {DISTILLED} belong together")
        if self.usual_forecaster not in ("unet", DISTILLED) or (
            self.usual_forecaster == DISTILLED and self.distilled_steps is None
        ):
            raise ValueError(f"usual_forecaster {self.usual_forecaster!r} is no U-Net of this stack")
        for name, component in self.components.items():
            if name != component.spec.name:
                raise ValueError(f"components: {name!r} comes with the spec of {component.spec.name!r}")

    @property
    def mm_per_px(self) -> float:
        """Millimetres a pixel of the crop."""
        return self.field_of_view_mm / self.crop_size

    def usual_steps(self, *, samples: int = 1, seed: int = 0, upscale: bool = False) -> int:
        """Sampler steps unless the user asks for others.

        The distilled U-Net was taught from the first noise of seed 0, on crops as they are: whatever else is
        forecast takes the full sampler's steps, and so does everything where it is not the usual forecaster.
        """
        taught = samples == 1 and seed == 0 and not upscale and self.usual_forecaster == DISTILLED
        return self.distilled_steps if taught and self.distilled_steps is not None else self.steps

    def forecaster(self, steps: int) -> str:
        """The component that forecasts in so many steps: ``unet_distilled`` in its own, else ``unet``."""
        return DISTILLED if steps == self.distilled_steps else "unet"

    def networks(self, steps: int) -> tuple[str, ...]:
        """The components that predict from crops, forecasting in so many steps."""
        return ("encoder", self.forecaster(steps), "classifier_now", "classifier_12m")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.distilled_steps is None:
            del values["distilled_steps"], values["usual_forecaster"]
        values["latent_shape"] = list(self.latent_shape)
        values["grade_zooms"] = list(self.grade_zooms)
        values["components"] = {
            name: {
                "terms": entry.terms,
                "float32_only": entry.float32_only,
                **entry.spec.to_dict(),
                "config": dict(entry.config),
            }
            for name, entry in self.components.items()
        }
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` gave; ValueError names a key that is missing, unknown or wrong."""
        known = {f.name for f in fields(cls)} - ({"distilled_steps", "usual_forecaster"} - set(values))
        _same_keys("stack.yaml", known, values)
        components = {}
        for name, entry in values["components"].items():
            _same_keys(f"component {name}", _ENTRY_KEYS, entry)
            components[name] = StackComponent(
                ComponentSpec.from_dict(name, entry), entry["terms"], entry["config"], entry["float32_only"]
            )
        plain = {key: values[key] for key in known}
        for key in ("latent_shape", "grade_zooms"):
            plain[key] = tuple(plain[key])
        return cls(**(plain | {"components": components}))


_ENTRY_KEYS = {"terms", "float32_only", "inputs", "outputs", "config"}


def _same_keys(where: str, known: set[str], values: Mapping[str, Any]) -> None:
    if missing := sorted(known - set(values)):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(set(values) - known):
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}")


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
        path = folder / RECIPE_FILE
        try:
            content = path.read_bytes()
            values = yaml.safe_load(content)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise StackError(f"{path} cannot be read ({error}): {_FETCH}") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            found = values.get("format") if isinstance(values, dict) else type(values).__name__
            raise StackError(
                f"{path} has format {found!r}; this version of kneerisk reads format {FORMAT}: "
                "use the kneerisk version that wrote it, or a stack made for this one"
            )
        files = values.pop("files", None)
        values.pop("format")
        try:
            description = StackDescription.from_dict(values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(f"{path} is not a valid stack: {error}. {_FETCH.capitalize()}") from error
        _verify(folder, files, description)
        return cls(folder, description, files, stack_sha256({**files, RECIPE_FILE: _sha256_bytes(content)}))

    @property
    def name(self) -> str:
        """As ``stack.yaml`` says, with the version: ``compact-0.1.0``."""
        return f"{self.description.name}-{self.description.version}"

    def calibration(self) -> dict[str, Any]:
        """Read ``calibration.json``."""
        return cast(dict[str, Any], json.loads((self.folder / CALIBRATION_FILE).read_text("utf-8")))

    def model_card(self) -> str:
        """Read ``MODEL_CARD.md``."""
        return (self.folder / MODEL_CARD_FILE).read_text("utf-8")

    def component(self, name: str) -> StackComponent:
        """One component's entry; StackError where the stack has none of that name."""
        try:
            return self.description.components[name]
        except KeyError:
            has = ", ".join(self.description.components)
            raise StackError(f"stack {self.name} has no component {name!r}; it has {has}") from None

    def open(
        self,
        component: str,
        backend: str = "cpu",
        precision: AskedPrecision = "auto",
        *,
        threads: int | None = None,
        parallel: int = 1,
        device: str = "cpu",
    ) -> Runner:
        """Open one component: close the runner, or use it in a ``with``.

        ``threads`` and ``parallel`` are those of :func:`kneerisk_engines.backends.open_runner`.
        NoEngineError where the backend or precision cannot run here; StackError where the component is
        missing or cannot be opened.  torch is imported for the backend ``torch`` alone.
        """
        from kneerisk_engines.backends import open_runner

        entry = self.component(component)

        def module() -> nn.Module:
            from kneerisk.models import build

            return build(component, dict(entry.config))

        try:
            return open_runner(
                self.folder / graph_file(component),
                entry.spec,
                backend=backend,
                precision="fp32" if entry.float32_only else precision,
                threads=threads,
                parallel=parallel,
                module=module,
                device=device,
            )
        except BackendUnavailableError as error:
            raise NoEngineError(str(error)) from error
        except EngineError as error:
            raise StackError(f"stack {self.name} in {self.folder}: {error}") from error


_FETCH = "fetch the stack again, or reinstall kneerisk if it is the shipped one"


def graph_file(component: str) -> str:
    """Name a component's graph file."""
    return f"{component}.onnx"


def stack_sha256(files: Mapping[str, str]) -> str:
    """One hash over all files' names and hashes, in the order of their names."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return _sha256_bytes(lines.encode())


def _sha256_bytes(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(folder: Path, files: object, description: StackDescription) -> None:
    from kneerisk_engines.weights import WEIGHTS_NAME

    if not isinstance(files, dict) or not all(isinstance(v, str) for pair in files.items() for v in pair):
        raise StackError(f"{folder / RECIPE_FILE} lists no files with their SHA-256: {_FETCH}")
    needed = {WEIGHTS_NAME, CALIBRATION_FILE, MODEL_CARD_FILE, *map(graph_file, description.components)}
    if unlisted := sorted(needed - set(files)):
        raise StackError(f"{folder / RECIPE_FILE} does not list {', '.join(unlisted)}: {_FETCH}")
    for name, expected in files.items():
        if Path(name).name != name:
            raise StackError(f"{folder / RECIPE_FILE} lists {name!r}: a stack's files lie in its own folder")
        path = folder / name
        if not path.is_file():
            raise StackError(f"{path} is missing: {_FETCH}")
        found = sha256_file(path)
        if found != expected:
            raise StackError(
                f"{path} is damaged or was changed (SHA-256 {found[:12]}…, not {expected[:12]}…): {_FETCH}"
            )


def stack_roots() -> list[Path]:
    """List the folders of stacks, first come first: $KNEERISK_STACKS, the user's data, the package."""
    import platformdirs

    user = Path(platformdirs.user_data_dir("kneerisk", appauthor=False)) / "stacks"
    return [*_listed_roots(), user, Path(__file__).parents[1] / "stacks"]


def own_root() -> Path:
    """Folder that imported stacks go into: the first of $KNEERISK_STACKS, else the user's data."""
    return stack_roots()[0]


def _listed_roots() -> list[Path]:
    return [Path(root) for root in os.environ.get(STACKS_VARIABLE, "").split(os.pathsep) if root]


def available_stacks() -> dict[str, Path]:
    """Name → folder of every stack that can be loaded by name; the first root that has a name wins."""
    found: dict[str, Path] = {}
    for root in stack_roots():
        if root.is_dir():
            for recipe in sorted(root.glob(f"*/{RECIPE_FILE}")):
                found.setdefault(recipe.parent.name, recipe.parent)
    return found


def find_stack(name_or_path: str | Path) -> Path:
    """Find the folder of a stack: a known name first, else a path; StackError says what there is instead."""
    known = available_stacks()
    if isinstance(name_or_path, str) and name_or_path in known:
        return known[name_or_path]
    folder = Path(name_or_path)
    if (folder / RECIPE_FILE).is_file():
        return folder
    if folder.is_dir():
        raise StackError(f"{folder} is no stack: it has no {RECIPE_FILE}")
    names = ", ".join(known) or "none"
    raise StackError(
        f"no stack {str(name_or_path)!r}: the stacks here are {names}; give one of these names, the path of "
        f"a stack's folder, or set ${STACKS_VARIABLE} to a folder that holds stacks"
    )
