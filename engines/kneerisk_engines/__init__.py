"""Run a network fast on whatever is here: tensors, names, shapes and files; nothing of knees."""

from kneerisk_engines.backends import BACKENDS, open_runner
from kneerisk_engines.errors import ArrayMismatchError, BackendUnavailableError, EngineError, ExportError
from kneerisk_engines.runner import Precision, Runner
from kneerisk_engines.spec import Array, ArraySpec, ComponentSpec

__all__ = [
    "BACKENDS",
    "Array",
    "ArrayMismatchError",
    "ArraySpec",
    "BackendUnavailableError",
    "ComponentSpec",
    "EngineError",
    "ExportError",
    "Precision",
    "Runner",
    "open_runner",
]
