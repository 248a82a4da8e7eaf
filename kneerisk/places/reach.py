"""One way to look at a file wherever it lies, on a disk, in an object store or in a PACS.

The network is opened only for the path of a URL, that is, where the user named one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from pathlib import Path

from kneerisk.places.place import OBJECT_STORES, Remote, is_remote, scheme_of, too_big

_AT_ONCE = 32
"""Requests on their way at a time: a store answers each in 10 to 50 ms, and throttles who is greedy."""
_WINDOW = 512


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

    source = iter(paths)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="kneerisk-fetch") as pool:
        while window := list(islice(source, _WINDOW)):
            list(pool.map(fetch, (path for path in window if is_remote(path))))
            yield from window
