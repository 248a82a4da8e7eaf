"""What is asked of a path on the way through the inputs, where links, closed folders and URLs may lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kneerisk.places.place import is_remote
from kneerisk.places.reach import remote_at
from kneerisk.radiograph.sources import manifest


def is_manifest(given: Path) -> bool:
    """Whether an input is a file by whose name it lists others."""
    return given.suffix.casefold() in manifest.SUFFIXES and holds(given.is_file)


def absolute_of(path: Path) -> Path:
    """Absolute and free of "..", but with links as the user wrote them, unlike `Path.resolve`."""
    if is_remote(path):
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100


def folder_of(given: Path) -> Path:
    """The folder that an input is, or lies in."""
    is_folder = not remote_at(given).is_file(given) if is_remote(given) else holds(given.is_dir)
    return given if is_folder else given.parent


def holds(ask: Callable[[], bool]) -> bool:
    """Ask of a path; no where it is closed or a link turns in a circle, which its row will say."""
    try:
        return ask()
    except OSError:
        return False


def folder_key(folder: Path) -> tuple[int, int]:
    """What a folder is known by, whichever link led to it; OSError where it cannot be asked."""
    status = folder.stat()
    return status.st_dev, status.st_ino
