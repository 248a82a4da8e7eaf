"""OpenVINO on the CPU: the default backend, with no torch installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from engines.errors import BackendUnavailableError, EngineError
from engines.runner import Precision, Runner
from engines.spec import Array, ComponentSpec


class OpenVINORunner(Runner):
    """A graph compiled for the CPU, for every batch size at once; nothing is written to disk."""

    def __init__(
        self,
        graph: Path,
        spec: ComponentSpec,
        *,
        precision: Literal["auto", "bf16", "fp32"] = "auto",
        threads: int | None = None,
    ) -> None:
        import openvino as ov

        core = ov.Core()
        chosen = _choose_precision(core, precision)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",  # the THROUGHPUT hint runs synchronous calls on one thread
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[chosen],
        }
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads {threads}: give at least 1")
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(graph)
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{graph.name}: OpenVINO {ov.__version__} cannot open it: {error}") from error
        super().__init__(spec, "cpu", chosen)

    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        # copied: OpenVINO would hand out its own buffers, which the next call overwrites
        results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return {array.name: np.asarray(results[array.name]) for array in self.spec.outputs}

    def _release(self) -> None:
        del self._request


def _choose_precision(core: Any, precision: Literal["auto", "bf16", "fp32"]) -> Precision:
    able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not able:
        raise BackendUnavailableError("this CPU has no bf16: ask for precision 'fp32' or 'auto'")
    if precision == "auto":
        return "bf16" if able else "fp32"
    return precision
