"""One component that runs: named arrays in, named arrays out, whatever the backend."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

import numpy as np

from kneerisk_engines.errors import EngineError
from kneerisk_engines.spec import Array, ComponentSpec

Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["auto", "fp32", "bf16", "fp16"]


class Runner(ABC):
    """An open network; a context manager that frees it.  Any thread may call it; some wait their turn.

    ``backend`` and ``precision`` say what really runs (never ``auto``), for every result's provenance.
    """

    def __init__(self, spec: ComponentSpec, backend: str, precision: Precision, *, parallel: int = 1) -> None:
        self.spec = spec
        self.backend = backend
        self.precision = precision
        self.engine_key: str | None = None
        """Of the compiled engine that runs; ``None`` where a graph or module runs as it is."""
        self.parallel = parallel
        """Calls that compute at once."""
        self._turns = threading.Semaphore(parallel)
        self._closed = False

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Named arrays [B, …] → named arrays [B, …] of the spec's outputs, which the caller owns.

        ArrayMismatchError where an array is not what the spec says; EngineError after the runner was closed.
        """
        batch = self.spec.check_inputs(arrays)
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with self._turns:
            if self._closed:
                raise EngineError(f"{self.spec.name}: this runner is closed; open another")
            outputs = self._infer(contiguous)
        self.spec.check_outputs(outputs, batch)
        return outputs

    def close(self) -> None:
        """Free the network, once the calls under way have ended; closing twice is harmless."""
        if not self._closed:
            self._closed = True
            for _ in range(self.parallel):
                self._turns.acquire()
            self._release()
            self._turns.release(self.parallel)

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
