"""Where a run's time goes, stage by stage, how fast it goes, and a word when that collapses."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

WINDOW = 60.0
"""Seconds over which a rate is taken, at least."""
COLLAPSED = 0.25
"""Of the usual rate."""
RECOVERED = 0.5
_FEW = 3
"""Windows before a usual rate is known."""


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


class Pace:
    """Images scored over time; what an earlier run had scored does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._done = 0
        self._slow = False
        self.rates: list[float] = []
        """Images a second of each window that has passed."""

    def note(self, done: int) -> str | None:
        """Note how many images are scored; a sentence where the run has just become slow, else ``None``."""
        now = self._clock()
        if now - self._start < WINDOW:
            return None
        rate = (done - self._done) / (now - self._start)
        self._start, self._done = now, done
        usual = statistics.median(self.rates) if len(self.rates) >= _FEW else None
        self.rates.append(rate)
        if usual is None:
            return None
        if self._slow:
            self._slow = rate < RECOVERED * usual
            return None
        self._slow = rate < COLLAPSED * usual
        if not self._slow:
            return None
        return (
            f"scoring has slowed to {rate:.2f} images/s, from {usual:.2f}: look at the disk or share of the "
            "images, at the memory, and at what else runs here"
        )
