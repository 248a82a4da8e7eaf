"""Where a run's time went, stage by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Seconds spent in named stages, from any thread. Stages overlap: their sum may exceed the run's time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block towards ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what another clock, perhaps of another machine, gave away."""
        with self._lock:
            for name, spent in seconds.items():
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    def take(self) -> dict[str, float]:
        """:meth:`seconds`, given away: each counts from nought again."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken

    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start

    def seconds(self) -> dict[str, float]:
        """Stage → seconds, in the order in which the stages first ended."""
        with self._lock:
            return dict(self._seconds)
