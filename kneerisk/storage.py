"""What a disk, a share or a file system answers, in words that name the place and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kneerisk.errors import KneeriskError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space there",
    errno.EDQUOT: "your quota there is used up: free some space, or ask for more",
    errno.EFBIG: "no file may be so large there: raise the limit (ulimit -f), or choose another disk",
    errno.EACCES: "see that you may write there, or choose another place",
    errno.EPERM: "see that you may write there, or choose another place",
    errno.EROFS: "the disk is read-only: choose another place",
    errno.ENOENT: "a folder is gone: see that its disk or share is still there",
    errno.ENOTDIR: "a folder on the way is a file: choose another place",
    errno.ESTALE: "the share has gone away: mount it again",
    errno.EIO: "the disk or share failed: have it looked at, or choose another",
    errno.ENODEV: "the disk or share has gone away: mount it again",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or lower --workers",
    errno.ENFILE: "too many files are open on this machine: end other programs",
    errno.ENAMETOOLONG: "a name is too long for that file system: choose a shorter one",
    errno.ENOMEM: "the memory is used up: end other programs, or lower --workers and --batch-size",
}


class StorageError(KneeriskError):
    """A place cannot be written or read, as the operating system says."""


def in_words(error: OSError, place: Path | str | None = None) -> str:
    """An operating system's error as a sentence: the place, what it said, what to do.

    Args:
        error: what was raised.
        place: what was at stake, where the error names nothing that a person gave.
    """
    named = place if place is not None else error.filename
    where = "a file" if named is None else os.fsdecode(named) if isinstance(named, bytes) else str(named)
    remedy = _REMEDIES.get(error.errno or 0, "see that the place is there and may be used")
    return f"{where}: {error.strerror or error}; {remedy}"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Whatever writing a file ends in because of its disk, becomes a :class:`StorageError`.

    Libraries raise errors of their own for a full disk, Polars's Rust even one that is no Exception.

    Raises:
        StorageError: names ``place`` and what to do.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {in_words(error, place)}") from error
    except BaseException as error:
        kind = type(error)
        if kind.__module__.partition(".")[0] not in ("polars", "pyo3_runtime"):
            raise
        line = (str(error).splitlines() or [kind.__name__])[0]
        raise StorageError(
            f"cannot write {place}: {line}; see that its disk has space, and its folder is there"
        ) from error
