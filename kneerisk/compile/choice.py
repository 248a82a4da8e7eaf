"""What runs a stack's networks here: verified TensorRT engines, torch on a GPU, or the CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.tensorrt.cache import CachedEngine, EngineCache
from kneerisk_engines.tensorrt.flavour import Flavour, open_flavour
from kneerisk_engines.tensorrt.gpu import Gpu, find_gpu
from kneerisk_engines.tensorrt.typed_graph import typed_graph

from kneerisk.errors import NoEngineError
from kneerisk.stack.stack import Stack, graph_file

if TYPE_CHECKING:
    from kneerisk_engines.runner import Precision, Runner

EnginePolicy = Literal["require", "build", "fallback"]
"""Where a verified engine is missing: stop, build it, or run on something slower."""
_FASTEST_FIRST: tuple[Precision, ...] = ("fp16", "bf16", "fp32")


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, where it computes, and why it was taken."""

    backend: Literal["cpu", "torch", "tensorrt"]
    device: str
    why: str


def choose(
    stack: Stack,
    components: Iterable[str],
    precision: str = "auto",
    policy: EnginePolicy = "fallback",
    cache: EngineCache | None = None,
) -> Choice:
    """What ``--backend auto`` takes: a GPU's verified engines, else torch on that GPU, else the CPU.

    Raises:
        NoEngineError: the policy is ``require`` and a GPU is here, and an engine is missing; or ``build``
            could not build one.
    """
    gpu = find_gpu()
    if gpu is None:
        return Choice("cpu", "cpu", "no NVIDIA GPU that torch can see is here")
    cache = cache or EngineCache()
    wanted = list(components)
    try:
        for component in wanted:
            find_engine(stack, component, precision, gpu, cache)
    except NoEngineError as error:
        if policy == "require":
            raise
        if policy == "build":
            build_here(stack, precision, cache)
            return choose(stack, wanted, precision, "require", cache)
        return Choice("torch", "cuda:0", f"on {gpu.name} without engines: {error}")
    return Choice("tensorrt", "cuda:0", f"verified engines for {gpu.name}")


def build_here(stack: Stack, precision: str, cache: EngineCache) -> None:
    """Compile and verify a stack for this machine's GPU, in the flavour that is installed."""
    from kneerisk.compile.build import CompileSettings, compile_stack

    flavour = _installed()[0]
    kept = "fp16" if precision == "auto" else precision
    settings = CompileSettings(str(stack.folder), flavour, kept, with_decoder=True)
    for _ in compile_stack(settings, cache):
        pass


def find_engine(stack: Stack, component: str, precision: str, gpu: Gpu, cache: EngineCache) -> CachedEngine:
    """A verified engine of a component's own weights for a GPU and an installed TensorRT.

    Raises:
        NoEngineError: there is none; the message has the nearest one's differences and the command to build.
    """
    entry = stack.component(component)
    order = _FASTEST_FIRST if precision == "auto" else (cast("Precision", precision),)
    graphs = {}
    for kept in ("fp32",) if entry.float32_only else order:
        model = typed_graph(stack.folder / graph_file(component), kept)
        graphs[kept] = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    versions = {flavour: open_flavour(flavour).version for flavour in _installed()}
    closest: list[str] | None = None
    for kept, sha256 in graphs.items():
        for engine in cache.entries():
            key = engine.key
            if key.component != component:
                continue
            wrong = []
            if key.onnx_sha256 != sha256:
                wrong.append(f"weights and precision: built for {key.precision}, other than {kept} here")
            if versions.get(cast("Flavour", key.flavour)) != key.version:
                here = versions.get(cast("Flavour", key.flavour), "none")
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
    flavour = next(iter(versions), "tensorrt")
    raise NoEngineError(
        f"no verified engine of {stack.name}'s {component} for {gpu.name}{nearest}: build it with "
        f"kneerisk compile --stack {stack.description.name} --flavour {flavour}"
    )


def open_engine(
    stack: Stack, component: str, precision: str, device: str, cache: EngineCache | None = None
) -> Runner:
    """Open the engine that :func:`find_engine` finds; its plan is checked before it is run.

    Raises:
        NoEngineError: there is no GPU, no engine, or the GPU refuses it.
    """
    from kneerisk_engines.tensorrt.runner import TensorRtRunner

    device = device if device.startswith("cuda") else "cuda:0"
    gpu = find_gpu(device)
    if gpu is None:
        raise NoEngineError(
            "--backend tensorrt needs an NVIDIA GPU that torch can see, and there is none: take --backend cpu"
        )
    cache = cache or EngineCache()
    engine = find_engine(stack, component, precision, gpu, cache)
    key = engine.key
    try:
        runner = TensorRtRunner(
            cache.plan(engine),
            stack.component(component).spec,
            flavour=cast("Flavour", key.flavour),
            precision=cast("Precision", key.precision),
            device=device,
        )
    except EngineError as error:
        raise NoEngineError(str(error)) from error
    runner.engine_key = key.digest
    return runner


def _installed() -> list[Flavour]:
    """The flavours that can be imported.

    Raises:
        NoEngineError: none; says how to get one.
    """
    known: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
    found: list[Flavour] = []
    missing = ""
    for flavour in known:
        try:
            open_flavour(flavour)
        except BackendUnavailableError as error:
            missing = missing or str(error)
        else:
            found.append(flavour)
    if not found:
        raise NoEngineError(missing)
    return found
