"""Files that a resumed run cannot find again: a disk that is not there, or files that somebody took away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from kneerisk.errors import KneeriskError, Reason
from kneerisk.places.place import is_remote, url_of
from kneerisk.records import RadiographRef, Refusal


class Found:
    """The files of a scan, as few bytes each."""

    def __init__(self) -> None:
        self.readable: set[bytes] = set()
        self.unreadable: set[bytes] = set()

    def add(self, item: RadiographRef | Refusal) -> None:
        """Note one more."""
        if isinstance(item, RadiographRef):
            self.readable.add(_mark(item.path))
        elif item.reason is Reason.FILE_UNREADABLE:
            self.unreadable.add(_mark(item.ref.path))

    def compare(self, earlier: Iterable[RadiographRef | Refusal], *, whole: bool) -> list[str]:
        """What has changed since an earlier scan, in words; nothing where nothing has.

        Some files may have been taken away on purpose: they have no row then. Where it rather looks as if
        their disk was missing, the run must not go on, or finished rows would be lost or become failures.

        Args:
            earlier: what that scan found, as far as it can still be read.
            whole: whether that is all; else nobody knows what came since.

        Raises:
            KneeriskError: names the place: a file that is still asked for (by name, manifest or link) cannot
                be read any more, the folder of a lost file is empty, or no file at all was found again.
        """
        before: set[bytes] = set()
        gone: set[bytes] = set()
        for item in earlier:
            path = item.path if isinstance(item, RadiographRef) else item.ref.path
            mark = _mark(path)
            before.add(mark)
            if isinstance(item, Refusal) or mark in self.readable or _is_there(path):
                continue
            gone.add(mark)
            if mark in self.unreadable:
                raise _missing(path)
            if is_remote(path):  # what a store lists is all that it has: nothing there is a disk that is gone
                continue
            home = next(folder for folder in path.parents if _is_there(folder))
            if not self.readable or _is_empty(home):
                raise _missing(home)
        return _words(len(self.readable - before) if whole else 0, len(gone))


def refuse_if_gone(item: RadiographRef | Refusal) -> None:
    """KneeriskError where a file that has a row of an earlier run cannot be read any more."""
    if isinstance(item, Refusal) and item.reason is Reason.FILE_UNREADABLE:
        raise _missing(item.ref.path)


def _words(came: int, gone: int) -> list[str]:
    notices = []
    if came:
        notices.append(f"images that came since the unfinished run began: {came}; they are scored too")
    if gone:
        notices.append(
            f"images that the unfinished run listed and that were taken away since: {gone}; they get no row"
        )
    return notices


def _missing(place: Path) -> KneeriskError:
    where = url_of(place) if is_remote(place) else place
    return KneeriskError(
        f"{where}: the files that the earlier run found here are gone. Is the disk mounted, and may you read "
        "it? Every finished row is kept: bring the files back and go on with --resume, or, if they are to "
        "stay away, start again with --overwrite"
    )


def _mark(path: Path) -> bytes:
    return hashlib.blake2b(os.fsencode(path), digest_size=8).digest()


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except OSError:
        return False
    return True


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return True
