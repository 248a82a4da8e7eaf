"""OpenVINO on the CPU: the default backend, with no torch installed."""

from __future__ import annotations

import math
import queue
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kneerisk_engines.backends import Request
from kneerisk_engines.errors import BackendUnavailableError, EngineError
from kneerisk_engines.runner import Precision, Runner
from kneerisk_engines.spec import Array, ComponentSpec

_WAVES = ("Sin", "Cos")
_LARGEST_LAYER = 2 << 20
"""Bytes of an item's largest layer output, about what a core's cache holds: above it, items go one by one."""


def import_openvino() -> Any:
    """The package ``openvino``, silent.

    As it stands, importing it posts an event with a lasting client id to an analytics host, and keeps that id
    in the user's home.  Where ``openvino_telemetry`` cannot be imported it takes a stub of its own instead.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def open_runner(request: Request) -> Runner:
    """Open a graph on the CPU; BackendUnavailableError where the precision is none of a CPU's."""
    if request.precision == "fp16":
        raise BackendUnavailableError(
            "the backend cpu does not run in fp16, TensorRT engines do: ask for bf16, fp32 or auto"
        )
    return OpenVINORunner(
        request.graph,
        request.spec,
        precision=request.precision,
        threads=request.threads,
        parallel=request.parallel,
    )


class OpenVINORunner(Runner):
    """A graph compiled for the CPU, for every batch size at once; nothing is written to disk.

    ``parallel`` calls share the threads out: each then waits less for the others at the end of a layer, and
    whatever else the machine has to do delays one call, not all.  The items of a call go through a network of
    large layers one by one, each through all layers while the caches hold what lies between them; never in
    pieces of several, of which the last could be smaller and round its items differently.
    """

    def __init__(
        self,
        graph: Path,
        spec: ComponentSpec,
        *,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        threads: int | None = None,
        parallel: int = 1,
    ) -> None:
        ov = import_openvino()
        core = ov.Core()
        chosen = _choose_precision(core, precision)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY" if parallel == 1 else "THROUGHPUT",
            "ENABLE_CPU_PINNING": False,  # two networks would share one processor and leave another idle
            "NUM_STREAMS": parallel,  # the THROUGHPUT hint alone runs every synchronous call on one thread
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[chosen],
        }
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads {threads}: give at least 1")
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(graph)
            waves = _split_waves(model) if chosen == "bf16" else None
            compiled = [core.compile_model(model, "CPU", settings)]
            if waves is not None:
                compiled.append(
                    core.compile_model(waves, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
                )
        except RuntimeError as error:
            raise EngineError(f"{graph.name}: OpenVINO {ov.__version__} cannot open it: {error}") from error
        self._one_by_one = _largest_layer(model, {"fp32": 4, "bf16": 2}[chosen]) > _LARGEST_LAYER
        self._free: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        for _ in range(parallel):
            self._free.put([part.create_infer_request() for part in compiled])
        super().__init__(spec, "cpu", chosen, parallel=parallel)
        # OpenVINO's bindings set themselves up in their first call, and hang where two threads make it.
        self._infer({array.name: np.zeros((1, *array.shape), array.dtype) for array in spec.inputs})

    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        requests = self._free.get()
        try:
            if not self._one_by_one:
                return self._infer_at_once(requests, arrays)
            items = range(len(arrays[self.spec.inputs[0].name]))
            parts = [
                self._infer_at_once(requests, {k: a[i : i + 1] for k, a in arrays.items()}) for i in items
            ]
        finally:
            self._free.put(requests)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _infer_at_once(self, requests: list[Any], arrays: dict[str, Array]) -> dict[str, Array]:
        request, *waves = requests
        for prefix in waves:
            wanted = {port.get_any_name(): arrays[port.get_any_name()] for port in prefix.model_inputs}
            results = prefix.infer(wanted, share_inputs=True, share_outputs=False)
            arrays = arrays | {port.get_any_name(): array for port, array in results.items()}
        # copied: OpenVINO would hand out its own buffers, which the next call overwrites
        results = request.infer(arrays, share_inputs=True, share_outputs=False)
        return {array.name: np.asarray(results[array.name]) for array in self.spec.outputs}

    def _release(self) -> None:
        del self._free


def _largest_layer(model: Any, item_size: int) -> int:
    """Bytes of one item's largest layer output at ``item_size`` bytes a value, where shapes are known."""
    sizes: list[int] = []
    for op in model.get_ops():
        if op.get_type_name() == "Constant":
            continue
        for output in op.outputs():
            shape = output.get_partial_shape()
            rest = list(shape)[1:] if shape.rank.is_static else []
            if all(side.is_static for side in rest):
                sizes.append(math.prod(side.get_length() for side in rest))
    return item_size * max(sizes)


def _split_waves(model: Any) -> Any:
    """Cut what leads to the sines and cosines off a model, and return it as a model of its own, or None.

    A bf16 model rounds an angle to 8 bits before it takes its sine: a time embedding's angle of 900 rad is
    then off by up to 2.  The part that is cut off runs in float32, and its sines become inputs of the rest.
    """
    ov = import_openvino()
    prefix = model.clone()
    waves = [op for op in prefix.get_ordered_ops() if op.get_type_name() in _WAVES]
    if not waves:
        return None
    for number, op in enumerate(waves):
        op.output(0).set_names({f"wave_{number}"})
    parameters = [p for p in prefix.get_parameters() if any(_leads_to(p, op) for op in waves)]

    inputs = []
    for number, op in enumerate(op for op in model.get_ordered_ops() if op.get_type_name() in _WAVES):
        wave = ov.opset13.parameter(op.output(0).get_partial_shape(), np.float32)
        wave.output(0).set_names({f"wave_{number}"})
        for target in op.output(0).get_target_inputs():
            target.replace_source_output(wave.output(0))
        inputs.append(wave)
    model.add_parameters(inputs)
    return ov.Model([op.output(0) for op in waves], parameters)


def _leads_to(source: Any, op: Any) -> bool:
    above = [op]
    seen = set()
    while above:
        node = above.pop()
        if node.get_friendly_name() == source.get_friendly_name():
            return True
        if node.get_friendly_name() not in seen:
            seen.add(node.get_friendly_name())
            above += [node.input(i).get_source_output().get_node() for i in range(node.get_input_size())]
    return False


def _choose_precision(core: Any, precision: Literal["auto", "bf16", "fp32"]) -> Precision:
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not able:
        raise BackendUnavailableError("this CPU has no bf16: ask for precision 'fp32' or 'auto'")
    if precision == "auto":
        return "bf16" if able else "fp32"
    return precision
