"""A verified engine from the cache, opened: of these very weights, for this GPU and an installed TensorRT."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

from kneerisk_engines.backends import Request
from kneerisk_engines.errors import BackendUnavailableError, NoEngineFoundError
from kneerisk_engines.runner import AskedPrecision, Precision
from kneerisk_engines.tensorrt.cache import CachedEngine, EngineCache
from kneerisk_engines.tensorrt.flavour import Flavour, installed_flavours
from kneerisk_engines.tensorrt.gpu import Gpu, find_gpu
from kneerisk_engines.tensorrt.runner import TensorRtRunner
from kneerisk_engines.tensorrt.typed_graph import typed_graph

_FASTEST_FIRST: tuple[Precision, ...] = ("fp16", "bf16", "fp32")


def open_runner(request: Request, cache: EngineCache | None = None) -> TensorRtRunner:
    """Open the engine that :func:`find_engine` finds; its plan is checked before it is run.

    Raises:
        BackendUnavailableError: there is no GPU, or it refuses the engine.
        NoEngineFoundError: there is no engine.
        EngineMismatchError: its plan was damaged or changed.
    """
    device = request.device if request.device.startswith("cuda") else "cuda:0"
    gpu = find_gpu(device)
    if gpu is None:
        raise BackendUnavailableError(
            "--backend tensorrt needs an NVIDIA GPU that torch can see, and there is none: take --backend cpu"
        )
    cache = cache or EngineCache()
    engine = find_engine(request.graph, request.spec.name, request.precision, gpu, cache)
    runner = TensorRtRunner(
        cache.plan(engine),
        request.spec,
        flavour=cast("Flavour", engine.key.flavour),
        precision=cast("Precision", engine.key.precision),
        device=device,
    )
    runner.engine_key = engine.key.digest
    return runner


def find_engine(
    graph: Path, component: str, precision: AskedPrecision, gpu: Gpu, cache: EngineCache
) -> CachedEngine:
    """The fastest verified engine of a graph and its weights for a GPU, in the precision asked for.

    Raises:
        NoEngineFoundError: there is none; the message has how the nearest one differs.
        BackendUnavailableError: no TensorRT is installed.
    """
    graphs = {}
    for kept in _FASTEST_FIRST if precision == "auto" else (precision,):
        model = typed_graph(graph, kept)
        graphs[kept] = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    versions: dict[str, str] = {flavour.name: flavour.version for flavour in installed_flavours()}
    closest: list[str] | None = None
    for kept, sha256 in graphs.items():
        for engine in cache.entries():
            key = engine.key
            if key.component != component:
                continue
            wrong = []
            if key.onnx_sha256 != sha256:
                wrong.append(f"weights and precision: built for {key.precision}, other than {kept} here")
            if versions.get(key.flavour) != key.version:
                here = versions.get(key.flavour, "none")
                wrong.append(f"{key.flavour}: built for {key.version}, here {here}")
            if key.gpu is not None and (key.gpu, key.multiprocessors) != (gpu.name, gpu.multiprocessors):
                wrong.append(f"GPU: built for {key.gpu} ({key.compute_capability}), here {gpu.name}")
            if not engine.verified:
                wrong.append("it was not yet run and verified on a GPU")
            if not wrong:
                return engine
            if closest is None or len(wrong) < len(closest):
                closest = wrong
    nearest = f" (the nearest: {'; '.join(closest)})" if closest else ""
    raise NoEngineFoundError(f"no verified engine of {component} for {gpu.name}{nearest}")
