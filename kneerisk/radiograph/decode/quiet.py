"""Silence for pydicom, which warns of odd files: a row's reason and flags say what a person needs."""

from __future__ import annotations

import threading
import warnings
from types import TracebackType

_lock = threading.Lock()
_inside = 0
_catcher: warnings.catch_warnings[None] | None = None


class Quiet:
    """A context in which no warning is shown and none becomes an error, from several threads at a time.

    `warnings.catch_warnings` alone restores the filters of whichever thread entered last; here the first
    thread in saves them and the last one out restores them.
    """

    def __enter__(self) -> None:
        global _inside, _catcher
        with _lock:
            if _inside == 0:
                _catcher = warnings.catch_warnings()
                _catcher.__enter__()
                warnings.simplefilter("ignore")
            _inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _inside, _catcher
        with _lock:
            _inside -= 1
            if _inside == 0 and _catcher is not None:
                _catcher.__exit__(kind, value, trace)
                _catcher = None
