"""A server that speaks S3 (moto's), with faults on demand: it answers 500 or 503, hangs up, or is slow."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from served import Served

logging.getLogger("werkzeug").setLevel(logging.ERROR)


class S3Server(Served):
    """Runs in a thread; ``url`` is its endpoint."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        super().__init__()
        self._chance = random.Random(0)
        self._lock = threading.Lock()
        self.faults = 0.0
        """Share of the requests that go wrong: a quarter each by an error of the server's, by its asking for
        patience, by an answer that breaks off, and by one that comes late."""
        self.breaks: set[int] = set()
        """Which listings break off in the middle, by their number since the last reset."""
        self.listings = 0
        self.failed = 0
        self.requests: list[str] = []
        """Method, path and query of each."""
        self.ranges: list[str | None] = []
        """Range of each GET of an object."""

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            where = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else "")
            self.requests.append(f"{environ['REQUEST_METHOD']} {where}")
            if environ["REQUEST_METHOD"] == "GET" and not environ["QUERY_STRING"]:
                self.ranges.append(environ.get("HTTP_RANGE"))
            lot = self._chance.random()
            fails = lot < self.faults
            self.failed += fails
            breaks = "list-type=2" in where and self.listings in self.breaks
            self.listings += "list-type=2" in where
        if breaks:
            return self._broken(environ, start)
        if not fails:
            return self._app(environ, start)
        kind = int(4 * lot / self.faults)
        if kind == 0:
            time.sleep(0.3)
            return self._app(environ, start)
        if kind == 1 and environ["REQUEST_METHOD"] == "GET":
            return self._broken(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start("503 Slow Down" if kind == 2 else "500 Internal Server Error", [("Content-Length", "0")])
        return [b""]

    def _broken(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        whole = b"".join(self._app(environ, start))
        return [whole[: len(whole) // 2]]
