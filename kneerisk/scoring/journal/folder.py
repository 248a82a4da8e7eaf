"""The folder beside the table: who works there, and how it is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import locked

from kneerisk.errors import UsageError
from kneerisk.records import RUN_SUFFIX
from kneerisk.storage import writing

LOCK = "lock"
LISTING = "listing.jsonl"
ROWS = "rows.jsonl"
OLD_HEADER = "run.json"
"""Of versions whose runs cannot be gone on with."""


def folder_of(out: Path) -> Path:
    """Where the journal of an output lies."""
    return out.with_name(out.name + RUN_SUFFIX)


@contextmanager
def workspace_of(out: Path) -> Iterator[Path]:
    """The same folder for a table that is made in one go, empty; what a killed one left there is taken away.

    Raises:
        UsageError: an unfinished run lies there, or another process is at work in it.
        StorageError: it cannot be made.
    """
    folder = folder_of(out)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        held.callback(leave_if_bare, folder)
        hold(held, folder)
        if any((folder / name).exists() for name in (LISTING, ROWS, OLD_HEADER)):
            raise UsageError(f"{folder.name} holds an unfinished run: finish it, or choose another --out")
        empty(folder)
        try:
            yield folder
        finally:
            empty(folder)
            leave(folder)


def hold(held: ExitStack, folder: Path) -> None:
    """Work in a folder alone for as long as ``held``; links that somebody laid there are taken away.

    Raises:
        UsageError: another process is at work in it.
    """
    try:
        held.enter_context(locked(folder / LOCK, wait=False))
    except BusyError:
        raise UsageError(
            f"another kneerisk is at work in {folder.name}: wait for it, or choose another --out"
        ) from None
    for entry in folder.iterdir():
        if entry.is_symlink():  # none is ours, and through it a file elsewhere would be written
            entry.unlink()


def leave_if_bare(folder: Path) -> None:
    """Take away what a lock of the second kind left: its file goes only when it is let go."""
    with suppress(OSError):
        folder.rmdir()


def leave(folder: Path) -> None:
    """Take away the folder of a run that is none, its lock held."""
    with suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def empty(folder: Path) -> None:
    """Take away all but the lock."""
    for entry in folder.iterdir():
        if entry.name.startswith(LOCK):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
