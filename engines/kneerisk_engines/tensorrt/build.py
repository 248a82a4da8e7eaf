"""A typed graph → a serialised engine, by TensorRT or TensorRT-RTX.

The precision stands in the graph (:mod:`.typed_graph`).  TensorRT-RTX builds for any chip that it
knows on a machine without a GPU; TensorRT times its kernels on the GPU that will run them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.spec import ComponentSpec
from kneerisk_engines.tensorrt.flavour import Flavour, OpenFlavour, open_flavour

Progress = Callable[[str, float], None]
"""(phase, share done in 0..1), from the thread that builds."""
HardwareCompatibility = Literal["none", "same-cc", "ampere-plus"]

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How an engine is built; all of it stands in the engine's key."""

    flavour: Flavour = "tensorrt"
    min_batch: int = 1
    opt_batch: int = 8
    max_batch: int = 32
    targets: tuple[str, ...] = ()
    """Chips such as ``sm80``; none: this GPU (tensorrt), or any that the flavour knows (tensorrt-rtx)."""
    hardware_compatibility: HardwareCompatibility = "none"
    deterministic: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise EngineError(
                f"batches {self.min_batch}, {self.opt_batch}, {self.max_batch}: give 1 ≤ min ≤ opt ≤ max"
            )
        if self.flavour == "tensorrt" and self.targets:
            raise EngineError(
                "tensorrt builds for the GPU it runs on: leave --gpu at current (or widen --hw-compat), or "
                "take --flavour tensorrt-rtx, which builds for other chips"
            )
        if self.flavour == "tensorrt-rtx" and (self.hardware_compatibility != "none" or self.deterministic):
            raise EngineError(
                "tensorrt-rtx has no hardware compatibility level and no deterministic build: list chips "
                "with --gpu, or leave them out for an engine that any chip can load"
            )
        for target in self.targets:
            if target == "sm90":
                raise EngineError(
                    "tensorrt-rtx cannot be told to build for sm90: build with --gpu portable and try it "
                    "there, or build with --flavour tensorrt on that GPU"
                )
            if target not in RTX_TARGETS:
                raise EngineError(
                    f"unknown chip {target!r}: tensorrt-rtx builds for {', '.join(RTX_TARGETS)}"
                )


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gives."""

    plan: bytes
    log: str
    """What the builder said, a line each."""
    timing_cache: bytes | None
    """For the next build on the same GPU; ``None`` where the flavour keeps none."""


def build_engine(
    model: bytes,
    spec: ComponentSpec,
    settings: BuildSettings,
    *,
    timing_cache: bytes | None = None,
    progress: Progress = lambda phase, share: None,
) -> Built:
    """Build one component.

    Args:
        model: a typed ONNX graph with its weights, as :func:`.typed_graph.typed_graph` makes it.
        spec: its inputs (for the range of batches) and outputs.
        settings: how.
        timing_cache: of an earlier build; one that does not fit is left aside, and the log says so.
        progress: called as the build goes on.

    Raises:
        BackendUnavailableError: the flavour is missing, or needs a GPU that is not here.
        EngineError: the graph cannot be parsed or built; the message has the builder's own words.
    """
    flavour = open_flavour(settings.flavour)
    trt = flavour.module
    lines: list[str] = []
    logger = _logger(trt, lines)
    builder = _open_builder(flavour, logger, lines)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [_parser_words(parser.get_error(i)) for i in range(parser.num_errors)]
        raise EngineError(f"{spec.name}: {flavour.name} cannot read the graph: {'; '.join(errors)}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 means float32
    config.progress_monitor = _monitor(trt, progress)
    config.add_optimization_profile(_profile(builder, spec, settings))
    cache = _configure(config, trt, settings, timing_cache, lines)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"{spec.name}: {flavour.name} {flavour.version} built no engine: {_last_errors(lines)}"
        )
    kept = None if cache is None else bytes(config.get_timing_cache().serialize())
    return Built(bytes(plan), "\n".join(lines), kept)


def _open_builder(flavour: OpenFlavour, logger: Any, lines: list[str]) -> Any:
    try:
        return flavour.module.Builder(logger)
    except (RuntimeError, TypeError) as error:
        raise BackendUnavailableError(
            f"{flavour.name} {flavour.version} starts no builder here ({_last_errors(lines)}): it needs an "
            "NVIDIA GPU and its driver; --flavour tensorrt-rtx builds without them"
        ) from error


def _profile(builder: Any, spec: ComponentSpec, settings: BuildSettings) -> Any:
    profile = builder.create_optimization_profile()
    for array in spec.inputs:
        batches = (settings.min_batch, settings.opt_batch, settings.max_batch)
        profile.set_shape(array.name, *((batch, *array.shape) for batch in batches))
    return profile


def _configure(
    config: Any, trt: Any, settings: BuildSettings, timing_cache: bytes | None, lines: list[str]
) -> Any:
    """Set what the flavours differ in; the timing cache where there is one."""
    if settings.flavour == "tensorrt-rtx":
        if settings.targets:
            config.num_compute_capabilities = len(settings.targets)
            for place, target in enumerate(settings.targets):
                config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), place)
        return None
    levels = {"none": "NONE", "same-cc": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}
    level = levels[settings.hardware_compatibility]
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
    if settings.deterministic:
        config.set_flag(trt.BuilderFlag.EDITABLE_TIMING_CACHE)
    cache = config.create_timing_cache(timing_cache or b"")
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        lines.append("WARNING: the timing cache does not fit this GPU and version; timing anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _logger(trt: Any, lines: list[str]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.Severity.INFO:
                lines.append(f"{severity.name}: {message}")

    return Logger()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            progress(phase, 0.0)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, min(1.0, (step + 1) / max(1, self._steps.get(phase, 1))))
            return True

        def phase_finish(self, phase: str) -> None:
            progress(phase, 1.0)

    return Monitor()


def _parser_words(error: Any) -> str:
    return (
        f"{error.desc()} (node {error.node_name() or error.node()}, {error.node_operator() or 'no operator'})"
    )


def _last_errors(lines: list[str]) -> str:
    errors = [line for line in lines if line.startswith(("ERROR", "INTERNAL_ERROR"))]
    return "; ".join(errors[-3:]) or "it gave no reason"
