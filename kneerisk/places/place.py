"""What a place is called: the path that a file's URL makes.

``Path("s3://bucket/knee.dcm")`` is ``s3:/bucket/knee.dcm``: a path whose first part is a scheme, as no
folder's name on a disk is. So references, journals and options hold URLs as the paths they are.
Nothing here opens anything: :mod:`.reach` does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from kneerisk.errors import UsageError

OBJECT_STORES = frozenset({"s3:", "gs:", "az:"})
DICOMWEB = frozenset({"dicomweb:", "dicomweb+http:"})
OUR_MANUFACTURER = "kneerisk"
"""Manufacturer (0008,0070) of the DICOM files that scoring writes, and first word of their series."""


@dataclass(frozen=True, slots=True)
class State:
    """What tells a file unchanged without reading it."""

    size: int
    modified_ns: int
    version: int
    """Of an object: a digest of its ETag."""


class Remote(Protocol):
    """A kind of place beyond this machine. Failures are OSError with words in ``strerror``."""

    def read(self, path: Path, most: int) -> bytes:
        """All bytes; EFBIG where there are more than ``most``."""

    def head(self, path: Path, length: int) -> bytes:
        """The first bytes."""

    def state(self, path: Path) -> State:
        """As it is now."""

    def likeness(self, path: Path, block: int) -> bytes:
        """Alike in copies, and in nothing else that a scanner made."""

    def is_file(self, path: Path) -> bool:
        """Whether one file lies there, and not a folder of them."""

    def files(self, path: Path) -> Iterator[Path]:
        """All files below, in an order that never changes."""


def scheme_of(path: Path) -> str | None:
    """``s3:`` and so on of a path that a URL made."""
    first = path.parts[0] if path.parts else ""
    return first if first in OBJECT_STORES or first in DICOMWEB else None


def is_remote(path: Path) -> bool:
    """Whether a path is a URL's, so that reading it opens the network."""
    return scheme_of(path) is not None


def url_of(path: Path) -> str:
    """The URL that made a remote path."""
    scheme, *rest = path.parts
    return f"{scheme}//{'/'.join(rest)}"


def place(given: str | os.PathLike[str]) -> Path:
    """What a user named → a path; ``file://`` becomes the plain path.

    Raises:
        UsageError: a URL of a kind that is not known, or one without a bucket or server.
    """
    path = Path(given)
    first = path.parts[0] if path.parts else ""
    if first == "file:":
        return Path("/", *(unquote(part) for part in path.parts[1:]))
    if scheme_of(path) is not None:
        if len(path.parts) < 2:
            raise UsageError(f"{os.fspath(given)} names no bucket or server")
        return path
    if "://" in os.fspath(given) or (first in ("http:", "https:", "ftp:") and not path.exists()):
        known = "s3://, gs://, az://, dicomweb://, dicomweb+http:// or file://"
        raise UsageError(f"{first}// is no place that kneerisk reads from or writes to: give {known}")
    return path


def too_big(size: int) -> OSError:
    """What :func:`read_bytes` raises of a file that is no radiograph by its size."""
    return OSError(errno.EFBIG, f"the file has {size / 1e9:.1f} GB, more than any radiograph; leave it out")
