"""A release's files in an order that never changes; what a listing has settled is not entered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.candidates import why_skip, why_skip_file
from kneerisk.releases.ledger import Ledger

FILES = "files in the release"


def check_root(root: Path) -> None:
    """Raise UsageError unless ``root`` is a folder that can be listed."""
    if not root.exists():
        raise UsageError(f"{root} does not exist; give the folder that holds the release")
    if not root.is_dir():
        raise UsageError(f"{root} is a file; give the folder that holds the release")
    try:
        os.listdir(root)  # noqa: PTH208
    except OSError as error:
        raise UsageError(f"{root} cannot be listed ({error.strerror}); check its permissions") from error


def walk(
    root: Path, arrive: Callable[[str, list[str]], Callable[[str], bool]]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files below ``root``, each with its path relative to it: a folder's files, then its folders.

    Args:
        root: a folder.
        arrive: is given each folder's path and its files' names before any of them is yielded, and says which
            of its folders (by path) are to be entered.

    Raises:
        UsageError: a folder cannot be listed: a release that is partly hidden would go unnoticed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        here = root / folder
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:  # a link that leads back
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise UsageError(f"{here} cannot be listed ({error.strerror}); check its permissions") from error
        files = [entry for entry in listed if not entry.is_dir()]
        folders = [
            _join(folder, entry.name) for entry in listed if entry.is_dir() and not entry.name.startswith(".")
        ]
        enters = arrive(folder, [entry.name for entry in files])
        yield from ((_join(folder, entry.name), entry) for entry in files)
        waiting.extend(path for path in reversed(folders) if enters(path))


def is_image(path: str, entry: os.DirEntry[str], ledger: Ledger) -> bool:
    """Whether a file may be a radiograph; one that clearly is none is counted in the ledger.

    Only the first bytes of files without a telling suffix are read.
    """
    why = why_skip(entry.name, is_folder=entry.is_dir()) or why_skip_file(entry)
    if why is not None:
        ledger.add(FILES, f"left out: {why}", path)
    return why is None


def shallow(folder: Path, depth: int = 2) -> list[Path]:
    """Files of a folder and of those at most ``depth`` levels below it, where releases keep their tables."""
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
    for entry in listed:
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            found.append(Path(entry.path))
        elif depth:
            found.extend(shallow(Path(entry.path), depth - 1))
    return found


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
