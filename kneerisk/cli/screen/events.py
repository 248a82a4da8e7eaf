"""``--log-format json``: what happens, as one JSON object a line on stderr, for a scheduler or a log store.

    {"time": "2026-01-31T22:10:05.123Z", "event": "progress", "done": 4096, "total": 200000, …}

``event`` is started, progress (every few seconds), warning, error, interrupted, finished (with the summary)
or log (what our own libraries report).  Rows are in the table; no line holds more of a file than its row.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kneerisk.printable import json_text

if TYPE_CHECKING:
    from kneerisk.scoring.run import Progress

EVERY = 5.0
"""Seconds between two lines of progress."""

_state: dict[str, Any] = {"wanted": False, "progress": -EVERY}


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say("log", level=record.levelname.lower(), name=record.name, message=record.getMessage())


def choose(log_format: str) -> None:
    """Speak JSON from now on (``"json"``), or not (``"text"``)."""
    _state.update(wanted=log_format == "json", progress=-EVERY)
    ours = logging.getLogger("kneerisk")
    ours.handlers = [handler for handler in ours.handlers if not isinstance(handler, _Handler)]
    if wanted():
        ours.addHandler(_Handler())
        ours.setLevel(logging.INFO)


def wanted() -> bool:
    """Whether JSON is spoken."""
    return bool(_state["wanted"])


def say(event: str, **facts: Any) -> None:
    """One line, where JSON is wanted."""
    if not wanted():
        return
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"time": now, "event": event, **facts}, ensure_ascii=False, default=str)
    sys.stderr.write(json_text(line) + "\n")
    sys.stderr.flush()


def progress(step: Progress) -> None:
    """How far a run has come: the first step, the last one, and one every few seconds."""
    now = time.monotonic()
    if now - _state["progress"] < EVERY and step.done < step.total:
        return
    _state["progress"] = now
    counts = {"done": step.done, "total": step.total, "rows": step.rows, "not_ok": step.not_ok}
    say("progress", **counts, reused=step.reused)
