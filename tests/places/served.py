"""A web application of the tests, served on this machine as long as a context."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Self

from werkzeug.serving import make_server


class Served:
    """Runs :meth:`_answer` in a thread; ``url`` is where."""

    def __init__(self) -> None:
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        raise NotImplementedError
