"""TensorRT and TensorRT-RTX behind one door: the same API in packages of different names."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from kneerisk_engines.errors import BackendUnavailableError

Flavour = Literal["tensorrt", "tensorrt-rtx"]
_MODULES = {"tensorrt": ("tensorrt",), "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_PACKAGES = {
    "tensorrt": "pip install 'kneerisk[gpu]'",
    "tensorrt-rtx": "pip install 'kneerisk[rtx]'",
}


@dataclass(frozen=True, slots=True)
class OpenFlavour:
    """An imported flavour."""

    name: Flavour
    version: str
    """In full: an engine runs on the version that built it."""
    module: Any


FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")


def installed_flavours() -> list[OpenFlavour]:
    """Those that can be imported; BackendUnavailableError, with how to get one, where none can."""
    found: list[OpenFlavour] = []
    missing: list[BackendUnavailableError] = []
    for name in FLAVOURS:
        try:
            found.append(open_flavour(name))
        except BackendUnavailableError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def open_flavour(name: Flavour) -> OpenFlavour:
    """Import a flavour; BackendUnavailableError says how to get one that is missing or broken."""
    problem: Exception | None = None
    for module_name in _MODULES[name]:
        try:
            module = importlib.import_module(module_name)
        except (ImportError, OSError, RuntimeError) as error:
            # A package is there whose libraries are not: that tells more than that no package is.
            if problem is None or not isinstance(error, ModuleNotFoundError):
                problem = error
        else:
            return OpenFlavour(name, str(module.__version__), module)
    raise BackendUnavailableError(
        f"{name} cannot be imported here ({problem}): {_PACKAGES[name]}, or choose the other --flavour"
    )
