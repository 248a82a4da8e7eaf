"""The process of ours on a node: opens what it is told to, and serves blocks. A Ray actor is made of it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from kneerisk.cluster.blocks import Opener, Serve, Trouble
from kneerisk.errors import KneeriskError


class Server:
    """Opened once, then called in threads. What is raised here comes back as words: Ray logs none of it."""

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._serve: Serve | None = None

    def open(self, opener: bytes) -> Mapping[str, Any] | Trouble:
        """Open networks and readers, which stay open as long as the process lives."""
        try:
            given: Opener = pickle.loads(opener)
            identity, self._serve = self._kept.enter_context(given())
        except Exception as error:
            return Trouble(_words(error))
        return identity

    def serve(self, items: Sequence[Any]) -> Any:
        """Serve one block: its result, or :class:`Trouble`."""
        assert self._serve is not None
        try:
            return self._serve(items)
        except Exception as error:
            return Trouble(_words(error))


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, KneeriskError) else f"{type(error).__name__}: {error}"
