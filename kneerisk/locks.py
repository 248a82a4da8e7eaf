"""One run at a time in a folder: two would interleave what they write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kneerisk.errors import UsageError


@contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Hold the folder's lock; it ends with the process, however that ends.  No locks on Windows.

    Raises:
        UsageError: with ``message``, where another process holds it.
    """
    with (folder / "lock").open("a") as handle:
        try:
            import fcntl
        except ImportError:
            yield
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(message) from None
        yield
