"""One way to look at a file wherever it lies, on a disk, in an object store or in a PACS.

The network is opened only for the path of a URL, that is, where the user named one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

from kneerisk.places.place import OBJECT_STORES, Remote, is_remote, scheme_of, too_big

_AT_ONCE = 64
"""Requests on their way at a time: a store answers each in 10 to 50 ms, and throttles who is greedy."""
_AHEAD = 512
"""Files that are asked for before their turn: what keeps the requests going while a page is listed."""


def remote_at(path: Path) -> Remote:
    """Who reads a remote path.

    Raises:
        UsageError: the library for it is not installed.
    """
    scheme = scheme_of(path)
    return _objects() if scheme in OBJECT_STORES else _dicomweb()


@cache
def _objects() -> Remote:
    from kneerisk.places.objects import Objects

    return Objects()


@cache
def _dicomweb() -> Remote:
    from kneerisk.places.dicomweb import DicomWeb

    return DicomWeb()


def forget() -> None:
    """What was seen of objects is asked for again: they may have changed since."""
    _objects.cache_clear()


def read_bytes(path: Path, most: int) -> bytes:
    """A file's bytes; OSError (EFBIG where it has more than ``most``)."""
    if is_remote(path):
        return remote_at(path).read(path, most)
    size = path.stat().st_size
    if size > most:
        raise too_big(size)
    return path.read_bytes()


def head_of(path: Path, length: int) -> bytes:
    """A file's first bytes."""
    if is_remote(path):
        return remote_at(path).head(path, length)
    with path.open("rb", buffering=0) as file:
        return file.read(length)


def warmed(paths: Iterable[Path], length: int) -> Iterator[Path]:
    """The same paths in the same order, their first bytes and likenesses fetched ahead, many at once."""

    def fetch(path: Path) -> None:
        try:
            remote_at(path).head(path, length)
            remote_at(path).likeness(path, length)
        except OSError:
            return  # whoever asks for it hears it

    ahead: deque[tuple[Path, Future[None] | None]] = deque()
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="kneerisk-fetch")
    try:
        for path in paths:
            ahead.append((path, pool.submit(fetch, path) if is_remote(path) else None))
            if len(ahead) > _AHEAD:
                yield _arrived(*ahead.popleft())
        while ahead:
            yield _arrived(*ahead.popleft())
    finally:
        pool.shutdown(cancel_futures=True)  # who stops half-way waits for what is on its way, not for all


def _arrived(path: Path, fetched: Future[None] | None) -> Path:
    if fetched is not None:
        fetched.result()
    return path
