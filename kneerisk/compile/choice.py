"""What runs a stack's networks here: verified TensorRT engines, torch on a GPU, or the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kneerisk_engines.errors import BackendUnavailableError, NoEngineFoundError
from kneerisk_engines.tensorrt.cache import EngineCache
from kneerisk_engines.tensorrt.flavour import installed_flavours
from kneerisk_engines.tensorrt.gpu import find_gpu
from kneerisk_engines.tensorrt.open import find_engine

from kneerisk.compile.build import CompileSettings, compile_stack
from kneerisk.compile.open import how_to_compile
from kneerisk.errors import NoEngineError
from kneerisk.stack.stack import Stack

if TYPE_CHECKING:
    from kneerisk_engines.runner import AskedPrecision

EnginePolicy = Literal["require", "build", "fallback"]
"""Where a verified engine is missing: stop, build it, or run on something slower."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, where it computes, and why it was taken."""

    backend: str
    device: str
    why: str


def resolve(
    stack: Stack,
    components: Iterable[str],
    backend: str = "auto",
    precision: AskedPrecision = "auto",
    *,
    device: str = "cpu",
    policy: EnginePolicy | None = None,
) -> Choice:
    """The backend that a user's words mean here; engines are built first where the policy says so.

    Args:
        stack: whose networks are to run.
        components: their names.
        backend: ``auto`` chooses (:func:`choose`); any other name is taken as it stands.
        precision: that they are to run in.
        device: of a backend that was named.
        policy: ``None`` falls back with ``auto``, and requires engines with ``tensorrt``.
    """
    if backend not in ("auto", "tensorrt"):
        return Choice(backend, device, "it was asked for")
    policy = policy or ("fallback" if backend == "auto" else "require")
    if backend == "tensorrt" and policy == "require":
        return Choice(backend, device, "it was asked for")
    return choose(stack, components, precision, policy)


def choose(
    stack: Stack,
    components: Iterable[str],
    precision: AskedPrecision = "auto",
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
        for name in wanted:
            asked = "fp32" if stack.component(name).float32_only else precision
            find_engine(stack.graph(name), name, asked, gpu, cache)
    except BackendUnavailableError as error:
        missing = isinstance(error, NoEngineFoundError)
        why = f"{error}: {how_to_compile(stack)}" if missing else str(error)
        if policy == "require":
            raise NoEngineError(why) from error
        if policy == "build":
            _build_here(stack, precision, cache)
            return choose(stack, wanted, precision, "require", cache)
        return Choice("torch", "cuda:0", f"on {gpu.name} without engines: {why}")
    return Choice("tensorrt", "cuda:0", f"verified engines for {gpu.name}")


def _build_here(stack: Stack, precision: AskedPrecision, cache: EngineCache) -> None:
    """Compile and verify a stack for this machine's GPU, in the flavour that is installed."""
    try:
        flavour = installed_flavours()[0].name
    except BackendUnavailableError as error:
        raise NoEngineError(str(error)) from error
    kept = "fp16" if precision == "auto" else precision
    settings = CompileSettings(str(stack.folder), flavour, kept, with_decoder=True)
    for _ in compile_stack(settings, cache):
        pass
