"""One image's outcome, and what tells that its file is still the same."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kneerisk.places.place import is_remote
from kneerisk.places.reach import remote_at
from kneerisk.scoring.journal.lines import sealed, unsealed
from kneerisk.scoring.outputs.rows import Row


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file unchanged without reading it: size, and when content and entry last changed."""

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState | None:
        """``None`` where the file cannot be looked at; of an object, its ETag stands for the entry's time."""
        try:
            if is_remote(path):
                found = remote_at(path).state(path)
                return cls(found.size, found.modified_ns, found.version)
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Record:
    """One image's outcome."""

    index: int
    """In the scan of the run that scored it."""
    input_sha256: str | None
    state: FileState | None
    rows: list[Row]

    @property
    def failed(self) -> bool:
        """Whether any of its rows failed (refusals are no failures)."""
        return any(row["status"] == "failed" for row in self.rows)


def line_of(key: bytes, record: Record) -> bytes:
    """A record's line under its key."""
    state = (
        None if record.state is None else [record.state.size, record.state.mtime_ns, record.state.ctime_ns]
    )
    body = [key.hex(), record.index, record.input_sha256, state, record.rows]
    return sealed(json.dumps(body, allow_nan=False).encode())


def record_in(line: bytes) -> Record | None:
    """The record of a line that has a key; ``None`` where it has been damaged since."""
    body = unsealed(line)
    if body is None:
        return None
    _, index, sha256, state, rows = json.loads(body)
    return Record(index, sha256, None if state is None else FileState(*state), rows)


def key_in(line: bytes) -> bytes | None:
    """Of a record's line; ``None`` where it is damaged, or whole and no record."""
    body = unsealed(line)
    try:
        key, index, _, state, rows = json.loads(body or b"")
        is_record = isinstance(index, int) and isinstance(state, list | None) and isinstance(rows, list)
        return bytes.fromhex(key) if is_record else None
    except (TypeError, ValueError):
        return None
