"""One component that runs: named arrays in, named arrays out, whatever the backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

import numpy as np

from engines.errors import EngineError
from engines.spec import Array, ComponentSpec

Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["auto", "fp32", "bf16", "fp16"]


class Runner(ABC):
    """An open network; a context manager that frees it.  One thread at a time.

    ``backend`` and ``precision`` say what really runs (never ``auto``), for every result's provenance.
    """

    def __init__(self, spec: ComponentSpec, backend: str, precision: Precision) -> None:
        self.spec = spec
        self.backend = backend
        self.precision = precision
        self.engine_key: str | None = None
        """Of the compiled engine that runs; ``None`` where a graph or module runs as it is."""
        self._closed = False

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays [B, …] → named arrays [B, …] of the spec's outputs, which the caller owns.

        ArrayMismatchError where an array is not what the spec says; EngineError after the runner was closed.
        """
        if self._closed:
            raise EngineError(f"{self.spec.name}: this runner is closed; open another")
        batch = self.spec.check_inputs(arrays)
        outputs = self._infer({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        self.spec.check_outputs(outputs, batch)
        return outputs

    def close(self) -> None:
        """Free the network; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Run checked, contiguous arrays."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of the network's memory."""
