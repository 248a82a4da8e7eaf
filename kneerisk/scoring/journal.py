"""A crash-safe journal beside the table: what was asked, what was found, each image's rows.

    risks.parquet.kneerisk/
      run.json        the settings that make a row what it is; a resumed run must have the same
      listing.jsonl   every image of the scan in order; complete when run.json says so
      rows.jsonl      one record an image: a CRC, its index, what the file was, its rows; appended and flushed
      to disk lock            held while a run works here

Killed at any moment, ``rows.jsonl`` ends in a record that is torn: it fails its CRC, is cut off, and its
image is scored again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import flush, locked
from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places.place import is_remote, remote_at
from kneerisk.records import RUN_SUFFIX, CarriedKind, RadiographRef, Refusal
from kneerisk.scoring.outputs.rows import Row
from kneerisk.scoring.outputs.table import replace_with

_LOCK = "lock"

Fingerprint = Mapping[str, Any]
"""Setting → value, plain JSON: everything but the images that a row depends on."""


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
    input_sha256: str | None
    state: FileState | None
    rows: list[Row]

    @property
    def failed(self) -> bool:
        """Whether any of its rows failed (refusals are no failures)."""
        return any(row["status"] == "failed" for row in self.rows)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the scan found."""

    images: int
    sha256: str
    """Over the source paths in order: shards that saw different folders differ here."""
    extra: Mapping[str, CarriedKind]
    """The manifest's own columns, and of what kind each is."""
    skipped: Mapping[str, int]
    """Files that the scan passed over, by why."""


class PathsDigest:
    """sha256 over the source paths of a scan, in order: two scans of the same images agree in it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, source_path: str) -> None:
        """The next image's."""
        self._sha256.update(source_path.encode("utf-8", "surrogateescape") + b"\n")

    def hexdigest(self) -> str:
        """Of all so far."""
        return self._sha256.hexdigest()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What ``run.json`` holds."""

    fingerprint: Mapping[str, Any]
    listing: Listing


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of ``listing.jsonl``: what the scan found, or refused."""

    ref: RadiographRef | None = None
    refusal: Refusal | None = None

    @property
    def item(self) -> RadiographRef | Refusal:
        found = self.ref or self.refusal
        assert found is not None
        return found


class Journal:
    """The journal of one output file.  Use :func:`open_journal`."""

    def __init__(self, folder: Path, listing: Listing) -> None:
        self.folder = folder
        self.listing = listing
        self._offsets: dict[int, int] = {}
        self._rows_path = folder / "rows.jsonl"
        self._end = self._recover()
        # No buffer: what a full disk did not take must not be written later, behind a resumed run's back.
        self._stream: FileIO = self._rows_path.open("ab", buffering=0)

    def images(self) -> Iterator[tuple[int, RadiographRef | Refusal]]:
        """The listing in order, one image at a time, each with its index."""
        with (self.folder / "listing.jsonl").open(encoding="utf-8") as lines:
            for index, line in enumerate(lines):
                yield index, from_plain(_Item, json.loads(line), f"image {index}").item

    def get(self, index: int) -> Record | None:
        """The last record of an image."""
        offset = self._offsets.get(index)
        if offset is None:
            return None
        with self._rows_path.open("rb") as stream:
            stream.seek(offset)
            record = _parse(stream.readline())
        if record is None:
            raise KneeriskError(
                f"{self._rows_path} was changed while the run was on; start again with --overwrite"
            )
        return record

    def append(self, records: Sequence[Record]) -> None:
        """Add records; they are on disk when this returns."""
        lines = [_line(record) for record in records]
        left = memoryview(b"".join(lines))
        while left:
            left = left[self._stream.write(left) :]
        os.fsync(self._stream.fileno())
        for record, line in zip(records, lines, strict=True):
            self._offsets[record.index] = self._end
            self._end += len(line)

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        """Close the file; the journal stays."""
        self._stream.close()

    def remove(self) -> None:
        """The table is in place: the journal has done its work.

        The lock goes last: who waits for it then finds the table.  Another run may have come so early that
        its own lock stands in the folder already; the folder is that one's now.
        """
        self.close()
        _empty(self.folder)
        _leave(self.folder)

    def _recover(self) -> int:
        """Index the whole records and cut off what a kill left behind them; returns the length kept."""
        if not self._rows_path.exists():
            return 0
        end = 0
        with self._rows_path.open("rb") as stream:
            for line in stream:
                record = _parse(line)
                if record is None:
                    break
                self._offsets[record.index] = end
                end += len(line)
        os.truncate(self._rows_path, end)
        return end


def folder_of(out: Path) -> Path:
    """Where the journal of an output lies."""
    return out.with_name(out.name + RUN_SUFFIX)


@contextmanager
def open_journal(
    out: Path,
    fingerprint: Fingerprint,
    images: Iterable[RadiographRef | Refusal],
    skipped: Mapping[str, int],
    carried: Mapping[str, CarriedKind] | None = None,
    *,
    resume: bool,
    overwrite: bool,
) -> Iterator[Journal]:
    """Open the journal of ``out``: a new one, or with ``resume`` the one an earlier run left.

    Args:
        out: the table to be.
        fingerprint: what rows depend on; a journal with another one is refused, naming what differs.
        images: the scan, listed once into a new journal; a journal that has its listing keeps it.
        skipped: filled as the scan goes.
        carried: of what kind the manifest's own columns are; text where it says nothing.
        resume: go on where an earlier run stopped; start anew if none did.
        overwrite: throw an earlier run's journal away.

    Raises:
        UsageError: a journal is there and neither option was given, or its fingerprint differs.
    """
    folder, there_before = folder_of(out), out.exists()
    if folder.exists() and not (resume or overwrite):
        raise UsageError(
            f"{folder.name} holds an unfinished run for {out.name}: "
            "go on with --resume, or start again with --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}); choose another --out") from error
    with ExitStack() as held:
        held.callback(_leave_if_bare, folder)
        try:
            held.enter_context(locked(folder / _LOCK, wait=False))
        except BusyError:
            raise UsageError(
                f"another kneerisk is at work in {folder.name}: wait for it, or choose another --out"
            ) from None
        if out.exists() and not there_before and not overwrite:
            _leave(folder)
            raise UsageError(
                f"another kneerisk has finished {out.name} just now: look at it, and ask again if need be"
            )
        if overwrite:
            _empty(folder)
        listing = _stored_listing(folder, fingerprint)
        if listing is None:
            _empty(folder)
            try:
                listing = _list_images(folder, fingerprint, images, skipped, carried or {})
            except BaseException:
                shutil.rmtree(folder)  # nothing to go on with, and in the way of the next try
                raise
        journal = Journal(folder, listing)
        try:
            yield journal
        finally:
            journal.close()


def _stored_listing(folder: Path, fingerprint: Fingerprint) -> Listing | None:
    """The listing of an earlier run, or ``None`` where that run never finished its scan."""
    path = folder / "run.json"
    if not path.exists():
        return None
    try:
        asked = from_plain(_Asked, json.loads(path.read_text("utf-8")), path.name)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); start again with --overwrite") from error
    refuse_difference(asked.fingerprint, json.loads(json.dumps(fingerprint)), "the unfinished run")
    return asked.listing


def refuse_difference(before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
    """UsageError naming every setting that differs between two fingerprints."""
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if changed:
        listed = "; ".join(
            f"{key} was {_shown(before.get(key))} and is now {_shown(now.get(key))}" for key in changed
        )
        raise UsageError(
            f"cannot resume: {what} differs from this one: {listed}. "
            "Repeat its settings, or start again with --overwrite"
        )


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def _list_images(
    folder: Path,
    fingerprint: Fingerprint,
    images: Iterable[RadiographRef | Refusal],
    skipped: Mapping[str, int],
    carried: Mapping[str, CarriedKind],
) -> Listing:
    digest = PathsDigest()
    extra: dict[str, CarriedKind] = {}
    count = 0
    path = folder / "listing.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for item in images:
            ref = item if isinstance(item, RadiographRef) else item.ref
            digest.add(ref.source_path)
            extra.update({name: carried.get(name, "text") for name in ref.extra})
            kind = "refusal" if isinstance(item, Refusal) else "ref"
            stream.write(json.dumps({kind: to_plain(item)}) + "\n")
            count += 1
    flush(path)
    listing = Listing(count, digest.hexdigest(), extra, dict(skipped))
    aside = folder / "run.json.new"
    aside.write_text(json.dumps(to_plain(_Asked(fingerprint, listing)), indent=2), "utf-8")
    replace_with(aside, folder / "run.json")
    return listing


def _leave_if_bare(folder: Path) -> None:
    """Take away what a lock of the second kind left: its file goes only when it is let go."""
    with suppress(OSError):
        folder.rmdir()


def _leave(folder: Path) -> None:
    """Take away the folder of a run that is none, its lock held."""
    with suppress(OSError):
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith(_LOCK):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _line(record: Record) -> bytes:
    state = (
        None if record.state is None else [record.state.size, record.state.mtime_ns, record.state.ctime_ns]
    )
    body = json.dumps([record.index, record.input_sha256, state, record.rows], allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> Record | None:
    """A record, or ``None`` where the line is torn."""
    check, _, body = line.partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body[:-1]):
        return None
    index, sha256, state, rows = json.loads(body)
    return Record(index, sha256, None if state is None else FileState(*state), rows)
