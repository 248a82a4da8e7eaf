"""Files that are whole or not there: written aside, flushed to disk, renamed into place; locks; hashes.

A program killed at any moment, or a full disk, leaves what stood at a place before.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kneerisk_engines.errors import BusyError

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems answer that cannot do what was asked at all."""


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Force a file or a folder's entries to disk.

    Windows cannot open folders, and some shares (CIFS, sshfs) cannot flush them: there they are skipped.
    """
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def put_in_place(aside: Path, place: Path) -> None:
    """Move a finished file to its place, on the same file system: flushed, renamed, the folder flushed."""
    flush(aside)
    aside.replace(place)
    flush(place.parent)


@contextmanager
def written_whole(place: Path) -> Iterator[Path]:
    """Give the name of a file aside to write; it takes its place at the end, and is removed on failure."""
    aside = place.with_name(f".{place.name}.new")
    aside.unlink(missing_ok=True)  # what a kill left; or a link, through which another file would be written
    try:
        yield aside
        put_in_place(aside, place)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_whole(place: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Give an empty folder aside to fill; with its files it takes its place at the end.

    A folder that is there already is renamed just before and deleted just after, so at no time is half a
    folder found at ``place``.  On failure nothing of the new one is left, and the old one stays.
    """
    aside, old = _beside(place, "new"), _beside(place, "old")
    aside.mkdir(mode=mode)
    try:
        yield aside
        for path in [*aside.iterdir(), aside]:
            flush(path)
        if place.exists():
            place.rename(old)
        aside.rename(place)
        flush(place.parent)
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_folder(place: Path) -> None:
    """Take a folder away, renamed first, so that nobody finds half of it."""
    old = _beside(place, "old")
    place.rename(old)
    shutil.rmtree(old)


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock on a file, which is made; the lock ends with the process, however that ends.

    Where the file system has no locks (NFS without lockd, Lustre without flock), a file beside it that names
    its process stands for one.

    Raises:
        BusyError: another process holds it, and ``wait`` is false.
    """
    from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

    timeout = -1 if wait else 0
    lock: BaseFileLock = FileLock(path, timeout=timeout)
    try:
        try:
            lock.acquire()
            while not path.exists():  # who held it took it away: a lock without a name keeps nobody out
                lock.release()
                lock.acquire()
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            lock = SoftFileLock(path.with_name(f"{path.name}.held"), timeout=timeout)
            lock.acquire()
    except Timeout:
        raise BusyError(f"another process holds {path}") from None
    try:
        yield
    finally:
        lock.release()


def _beside(place: Path, kind: str) -> Path:
    """A name that nobody else has, hidden, in the same folder."""
    return place.with_name(f".{place.name}-{secrets.token_hex(4)}.{kind}")
