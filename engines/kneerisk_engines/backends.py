"""Which backend runs a graph: the one place that knows them all, each imported only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kneerisk_engines.errors import BackendUnavailableError, EngineError

if TYPE_CHECKING:
    from torch import nn

    from kneerisk_engines.runner import AskedPrecision, Runner
    from kneerisk_engines.spec import ComponentSpec

BACKENDS = {
    "cpu": "kneerisk_engines.openvino_backend",
    "torch": "kneerisk_engines.torch_backend",
    "tensorrt": "kneerisk_engines.tensorrt.open",
}
"""Name → module, whose ``open_runner`` takes a :class:`Request`: a further backend is a file and a line."""


@dataclass(frozen=True, slots=True)
class Request:
    """A component that :func:`.export.export_components` wrote, and how it should run."""

    graph: Path
    """Beside its weights."""
    spec: ComponentSpec
    precision: AskedPrecision = "auto"
    """``auto`` is the fastest that the backend trusts here; the runner says which."""
    threads: int | None = None
    """``None``: the backend's own choice."""
    parallel: int = 1
    """Calls that share the threads, where the backend can; elsewhere they wait for each other."""
    device: str = "cpu"
    """Of the backends that have several, such as ``cuda:0``."""
    module: Callable[[], nn.Module] | None = None
    """Builds the network without its weights; for the torch backend."""


def open_runner(request: Request, backend: str = "cpu") -> Runner:
    """Open a component; close it, or use a ``with``.

    Raises:
        BackendUnavailableError: the backend or precision cannot run here.
        EngineError: the files are missing or do not fit.
    """
    from kneerisk_engines.weights import WEIGHTS_NAME

    if backend not in BACKENDS:
        raise BackendUnavailableError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    for path in (request.graph, request.graph.with_name(WEIGHTS_NAME)):
        if not path.is_file():
            raise EngineError(f"{request.spec.name}: {path} is missing: fetch or export the stack again")
    opened: Runner = importlib.import_module(BACKENDS[backend]).open_runner(request)
    return opened
