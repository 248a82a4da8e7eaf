"""How fast a run goes, minute by minute, and a word when it collapses: overnight nobody looks at a bar."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

WINDOW = 60.0
"""Seconds over which a rate is taken, at least."""
COLLAPSED = 0.25
"""Of the usual rate."""
RECOVERED = 0.5
_FEW = 3
"""Windows before a usual rate is known."""


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
