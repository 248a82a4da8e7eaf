"""A stack's networks as TensorRT engines: typed, built once, verified where a GPU is, kept and found."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from kneerisk_engines.errors import BackendUnavailableError, EngineError, EngineMismatchError
from kneerisk_engines.files import written_whole
from kneerisk_engines.plain import to_plain
from kneerisk_engines.tensorrt.build import BuildSettings, HardwareCompatibility, build_engine
from kneerisk_engines.tensorrt.cache import CachedEngine, EngineCache
from kneerisk_engines.tensorrt.flavour import Flavour, open_flavour
from kneerisk_engines.tensorrt.gpu import Gpu, find_gpu
from kneerisk_engines.tensorrt.key import EngineKey
from kneerisk_engines.tensorrt.runner import TensorRtRunner
from kneerisk_engines.tensorrt.typed_graph import typed_graph

from kneerisk.compile.verification import verify_against_torch
from kneerisk.errors import EngineUnverifiedError, NoEngineError, StackError, UsageError
from kneerisk.stack.stack import Stack

if TYPE_CHECKING:
    from kneerisk_engines.runner import Precision, Runner
    from kneerisk_engines.spec import ComponentSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompileSettings:
    """What to build."""

    stack: str = "compact"
    flavour: str = "tensorrt"
    precision: str = "fp16"
    min_batch: int = 1
    opt_batch: int | None = None
    """``None``: the stack's micro-batch."""
    max_batch: int = 32
    gpu: str = "current"
    """``current``, ``portable``, or chips such as ``sm80,sm89``."""
    hardware_compatibility: str = "none"
    timing_cache: bool = True
    deterministic: bool = False
    with_decoder: bool = False
    onnx_only: Path | None = None
    force: bool = False
    verify_data: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one component."""

    component: str
    precision: str
    state: str
    """``built``, ``found`` (in the cache), or ``typed`` (an ONNX graph was written)."""
    place: Path
    size: int
    """Bytes of the plan or the graph."""
    seconds: float
    verified: bool | None = None
    """``None`` where no GPU has run it."""

    def in_words(self) -> str:
        """For the terminal, a line."""
        checked = {True: "verified", False: "failed its verification", None: "not yet run on a GPU"}
        told = "" if self.state == "typed" else f", {checked[self.verified]}"
        return (
            f"{self.component} ({self.precision}): {self.state} in {self.seconds:.1f} s, "
            f"{self.size / 1e6:.1f} MB{told}: {self.place}"
        )


@dataclass(frozen=True, slots=True)
class _Graph:
    component: str
    spec: ComponentSpec
    precision: Precision
    model: bytes
    key: EngineKey


def compile_stack(settings: CompileSettings, cache: EngineCache | None = None) -> Iterator[Outcome]:
    """Build what the cache lacks; with a GPU, all components are verified together before any is published.

    Raises:
        UsageError: the settings do not go together.
        NoEngineError: the flavour, or the GPU that it needs, is not here.
        EngineUnverifiedError: the engines' answers are not float32's; their report is kept, they are not.
        StackError: a graph cannot be typed or built.
    """
    stack = Stack.load(settings.stack)
    cache = cache or EngineCache()
    names = tuple(name for name in stack.description.components if settings.with_decoder or name != "decoder")
    try:
        if settings.onnx_only is not None:
            yield from _write_graphs(stack, names, settings, settings.onnx_only)
            return
        gpu = find_gpu()
        build = _build_settings(stack, settings, gpu)
        version = open_flavour(build.flavour).version
        graphs = [_typed(stack, name, settings.precision, build, version, gpu) for name in names]
        yield from _build_all(stack, graphs, build, settings, cache, gpu)
    except BackendUnavailableError as error:
        raise NoEngineError(str(error)) from error
    except EngineMismatchError as error:
        raise NoEngineError(str(error)) from error
    except EngineError as error:
        raise StackError(f"{stack.name}: {error}") from error


def _build_settings(stack: Stack, settings: CompileSettings, gpu: Gpu | None) -> BuildSettings:
    flavour = cast("Flavour", settings.flavour)
    targets: tuple[str, ...] = ()
    if settings.gpu == "current":
        if gpu is None:
            raise NoEngineError(
                "there is no NVIDIA GPU here that torch can see: build for other machines with --flavour "
                "tensorrt-rtx --gpu portable (or sm80,sm89,…)"
            )
    elif settings.gpu != "portable":
        targets = tuple(sorted(chip.strip().lower() for chip in settings.gpu.split(",") if chip.strip()))
        if not targets:
            raise UsageError("--gpu is current, portable, or chips such as sm80,sm89")
    elif flavour == "tensorrt":
        raise UsageError("--gpu portable is for --flavour tensorrt-rtx; tensorrt has --hw-compat")
    usual = stack.description.micro_batch
    try:
        return BuildSettings(
            flavour,
            settings.min_batch,
            settings.opt_batch or min(max(usual, settings.min_batch), settings.max_batch),
            settings.max_batch,
            targets,
            cast("HardwareCompatibility", settings.hardware_compatibility),
            settings.deterministic,
        )
    except EngineError as error:
        raise UsageError(str(error)) from error


def _typed(
    stack: Stack, name: str, precision: str, build: BuildSettings, version: str, gpu: Gpu | None
) -> _Graph:
    spec, kept, model = _model(stack, name, precision)
    # RTX engines suit many chips: which machine built one is no part of what it is.
    own = gpu if build.flavour == "tensorrt" else None
    key = EngineKey(
        component=name,
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        spec_sha256=hashlib.sha256(
            json.dumps(to_plain(spec.to_arrays()), sort_keys=True).encode()
        ).hexdigest(),
        batches=(build.min_batch, build.opt_batch, build.max_batch),
        flavour=build.flavour,
        version=version,
        precision=kept,
        targets=build.targets,
        hardware_compatibility=build.hardware_compatibility,
        deterministic=build.deterministic,
        compute_capability=own.compute_capability if own else None,
        gpu=own.name if own else None,
        multiprocessors=own.multiprocessors if own else None,
    )
    return _Graph(name, spec, kept, model, key)


def _model(stack: Stack, name: str, precision: str) -> tuple[ComponentSpec, Precision, bytes]:
    entry = stack.component(name)
    kept = cast("Precision", "fp32" if entry.float32_only else precision)
    model = typed_graph(stack.graph(name), kept)
    return entry.spec, kept, model.SerializeToString(deterministic=True)


def _write_graphs(
    stack: Stack, names: tuple[str, ...], settings: CompileSettings, folder: Path
) -> Iterator[Outcome]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        began = time.monotonic()
        _, kept, model = _model(stack, name, settings.precision)
        place = folder / f"{name}.{kept}.onnx"
        with written_whole(place) as aside:
            aside.write_bytes(model)
        yield Outcome(name, kept, "typed", place, len(model), time.monotonic() - began)


def _build_all(
    stack: Stack,
    graphs: list[_Graph],
    build: BuildSettings,
    settings: CompileSettings,
    cache: EngineCache,
    gpu: Gpu | None,
) -> Iterator[Outcome]:
    plans: dict[str, tuple[bytes, str]] = {}
    with ExitStack() as locks:
        # Always in the same order, so that two builders cannot wait for each other.
        for graph in graphs:
            locks.enter_context(cache.lock(graph.key))
        for graph in graphs:
            began = time.monotonic()
            found = None if settings.force else cache.find(graph.key)
            if found is not None and (found.verified or gpu is None):
                yield _outcome(graph, "found", found, began)
                continue
            log.info("building %s in %s", graph.component, graph.precision)
            timings = (
                cache.timing_cache(graph.key.version, gpu.name) if gpu and settings.timing_cache else None
            )
            built = build_engine(
                graph.model,
                graph.spec,
                build,
                timing_cache=timings.read_bytes() if timings and timings.is_file() else None,
                progress=lambda phase, share: log.debug("%s %.0f%%", phase, 100 * share),
            )
            if timings is not None and built.timing_cache is not None:
                timings.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                timings.write_bytes(built.timing_cache)
            if gpu is None:
                published = cache.publish(graph.key, built.plan, log=built.log)
                yield _outcome(graph, "built", published, began)
            else:
                plans[graph.component] = built.plan, built.log
        if plans and gpu is not None:
            yield from _verify_and_publish(stack, graphs, plans, settings, cache, gpu)


def _outcome(graph: _Graph, state: str, engine: CachedEngine, began: float) -> Outcome:
    verified = None if engine.verification is None else engine.verified
    return Outcome(
        *(graph.component, graph.precision, state, engine.folder, engine.plan_bytes),
        seconds=time.monotonic() - began,
        verified=verified,
    )


def _verify_and_publish(
    stack: Stack,
    graphs: list[_Graph],
    plans: Mapping[str, tuple[bytes, str]],
    settings: CompileSettings,
    cache: EngineCache,
    gpu: Gpu,
) -> Iterator[Outcome]:
    began = time.monotonic()
    with ExitStack() as kept:
        runners: dict[str, Runner] = {}
        for graph in graphs:
            if graph.component in plans:
                plan = plans[graph.component][0]
            else:
                found = cache.find(graph.key)
                assert found is not None
                plan = cache.plan(found)
            runners[graph.component] = kept.enter_context(
                TensorRtRunner(
                    plan, graph.spec, flavour=cast("Flavour", graph.key.flavour), precision=graph.precision
                )
            )
        batches = (settings.min_batch, stack.description.micro_batch, settings.max_batch)
        report = verify_against_torch(stack, runners, settings.verify_data, batches)
    plain = to_plain(report)
    for graph in graphs:
        if graph.component not in plans:
            continue
        plan, told = plans[graph.component]
        if not report.passed:
            place = cache.keep_failure(graph.key, log=told, verification=plain)
            log.error("%s: %s", graph.component, place)
            continue
        machine = {"gpu": gpu.name, "cuda": gpu.cuda}
        published = cache.publish(graph.key, plan, log=told, verification=plain, machine=machine)
        yield _outcome(graph, "built", published, began)
    if not report.passed:
        raise EngineUnverifiedError(
            f"the engines of {stack.name} do not answer as float32 does ({'; '.join(report.failures)}): they "
            f"are not published, the report is in {cache.root / 'failures'}; try --precision fp32"
        )
