"""What runs a stack's networks here: verified TensorRT engines, torch on a GPU, or the CPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kneerisk_engines.errors import BackendUnavailableError, NoEngineFoundError
from kneerisk_engines.tensorrt.cache import EngineCache
from kneerisk_engines.tensorrt.flavour import installed_flavours
from kneerisk_engines.tensorrt.gpu import find_gpu, why_no_gpu
from kneerisk_engines.tensorrt.open import find_engine

from kneerisk.compile.build import CompileSettings, compile_stack
from kneerisk.compile.open import how_to_compile
from kneerisk.errors import NoEngineError, UsageError
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
    device: str | None = None,
    policy: EnginePolicy | None = None,
) -> Choice:
    """The backend that a user's words mean here; engines are built first where the policy says so.

    Words that cannot be followed are an error: nobody is to believe that a GPU scored where a CPU did.

    Args:
        stack: whose networks are to run.
        components: their names.
        backend: ``auto`` chooses (:func:`choose`); any other name is taken as it stands.
        precision: that they are to run in.
        device: ``cpu``, or a GPU such as ``cuda:0``; ``None``: the backend's own.
        policy: ``None`` falls back with ``auto``, and requires engines with ``tensorrt``.

    Raises:
        UsageError: the words contradict each other.
        NoEngineError: see :func:`choose`.
    """
    if policy is not None and backend not in ("auto", "tensorrt"):
        raise UsageError(
            f"--engine-policy {policy} is about TensorRT engines, and --backend {backend} uses none: leave "
            "one of the two out"
        )
    if backend == "cpu" and device not in (None, "cpu"):
        raise UsageError(
            f"--device {device}: --backend cpu computes on the CPU; take --backend torch or auto with it"
        )
    if device == "cpu" and (backend == "tensorrt" or policy in ("require", "build")):
        raise UsageError("--device cpu: TensorRT engines run on a GPU; leave out one of the two")
    if backend in ("cpu", "torch"):
        return Choice(backend, device or "cpu", "it was asked for")
    if device == "cpu":
        return Choice("cpu", "cpu", "--device cpu was asked for")
    policy = policy or ("fallback" if backend == "auto" else "require")
    if backend == "tensorrt" and policy == "require":
        return Choice(backend, device or "cuda:0", "it was asked for")
    return choose(stack, components, precision, policy, device=device)


def choose(
    stack: Stack,
    components: Iterable[str],
    precision: AskedPrecision = "auto",
    policy: EnginePolicy = "fallback",
    cache: EngineCache | None = None,
    *,
    device: str | None = None,
) -> Choice:
    """What ``--backend auto`` takes: a GPU's verified engines, else torch on that GPU, else the CPU.

    Raises:
        NoEngineError: there is no GPU, and one was named or the policy is not ``fallback``; or the policy is
            ``require`` and an engine is missing; or ``build`` could not build one.
    """
    place = device or "cuda:0"
    gpu = find_gpu(place)
    if gpu is None:
        why = why_no_gpu(place) or "no NVIDIA GPU that torch can see is here"
        if device is not None:
            raise NoEngineError(f"--device {device} cannot be used: {why}; leave it out to score on the CPU")
        if policy != "fallback":
            raise NoEngineError(
                f"--engine-policy {policy} asks for TensorRT engines, which run on an NVIDIA GPU: {why}; "
                "leave it out to score on the CPU"
            )
        return Choice("cpu", "cpu", why)
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
            return choose(stack, wanted, precision, "require", cache, device=device)
        return Choice("torch", place, f"on {gpu.name} without engines: {why}")
    return Choice("tensorrt", place, f"verified engines for {gpu.name}")


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
