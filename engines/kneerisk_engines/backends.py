"""Which backend runs a graph: the one place that knows them all, each imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.runner import AskedPrecision, Runner
from kneerisk_engines.spec import ComponentSpec
from kneerisk_engines.weights import WEIGHTS_NAME

if TYPE_CHECKING:
    from torch import nn

BACKENDS = ("cpu", "torch")
"""``cpu`` is OpenVINO; ``torch`` runs the module itself with the same weights.  Compiled engines are opened
from their cache, by :class:`kneerisk_engines.tensorrt.runner.TensorRtRunner`."""


def open_runner(
    graph: Path,
    spec: ComponentSpec,
    *,
    backend: str = "cpu",
    precision: AskedPrecision = "auto",
    threads: int | None = None,
    parallel: int = 1,
    module: Callable[[], nn.Module] | None = None,
    device: str = "cpu",
) -> Runner:
    """Open a component that :func:`.export.export_components` wrote; close it, or use a ``with``.

    ``auto`` precision is bf16 where the chip has it and fp32 elsewhere; the runner says which.  ``threads``
    defaults to the backend's own choice; ``parallel`` calls share them where the backend can (``cpu``), and
    wait for each other where it cannot.  The torch backend needs ``module``, which builds the network
    without its weights, and may take another ``device``.  BackendUnavailableError where the backend or
    precision cannot run here; EngineError where the files are missing or do not fit.
    """
    if backend == "tensorrt":
        raise BackendUnavailableError(
            "a graph is not run by TensorRT as it is, only an engine compiled from it: choose one of "
            + ", ".join(BACKENDS)
        )
    if backend not in BACKENDS:
        raise BackendUnavailableError(f"unknown backend {backend!r}: choose one of " + ", ".join(BACKENDS))
    if precision == "fp16":
        raise BackendUnavailableError(
            f"the backend {backend} does not run in fp16, TensorRT engines do: ask for bf16, fp32 or auto"
        )
    weights = graph.with_name(WEIGHTS_NAME)
    for path in (graph, weights):
        if not path.is_file():
            raise EngineError(f"{spec.name}: {path} is missing: fetch or export the stack again")
    if backend == "cpu":
        from kneerisk_engines.openvino_backend import OpenVINORunner

        return OpenVINORunner(graph, spec, precision=precision, threads=threads, parallel=parallel)
    from kneerisk_engines.torch_backend import TorchRunner

    if module is None:
        raise EngineError(
            f"{spec.name}: the torch backend runs a module: pass module=, a function that builds it"
        )
    return TorchRunner(module, weights, spec, precision=precision, threads=threads, device=device)
