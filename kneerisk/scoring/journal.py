"""A crash-safe journal beside the table: what was asked, what was found, each image's rows.

    risks.parquet.kneerisk/
      listing.jsonl   the settings that make a row what it is, every image of the scan in order, their count
      rows.jsonl      one record an image: its key, what the file was, its rows; appended and flushed to disk
      suspects        the images that are being read: see suspects.py
      lock            held while a run works here

Every line begins with a CRC of the rest. A record's key is a hash of the settings and of all that the scan
knew of the image, so a record holds for these alone, wherever the image now stands: a resumed run scans its
inputs again, and takes the records whose keys it meets. Hence a listing may be lost without harm, a line
that fails its CRC costs its own image a second scoring, and files that came since are scored.
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
from typing import IO, Any

from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import locked
from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places.place import is_remote
from kneerisk.places.reach import remote_at
from kneerisk.records import RUN_SUFFIX, CarriedKind, RadiographRef, Refusal
from kneerisk.scoring.gone import Found
from kneerisk.scoring.outputs.rows import Row
from kneerisk.scoring.outputs.table import replace_with
from kneerisk.storage import writing

_LOCK = "lock"
_LISTING = "listing.jsonl"
_ROWS = "rows.jsonl"
_OLD_HEADER = "run.json"
_KEY_BYTES = 16

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
    """In the scan of the run that scored it."""
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
class _Line:
    """A line of the listing: one of these."""

    fingerprint: dict[str, Any] | None = None
    ref: RadiographRef | None = None
    refusal: Refusal | None = None
    listing: Listing | None = None

    @property
    def item(self) -> RadiographRef | Refusal | None:
        """What the scan found at this place, or refused."""
        return self.ref or self.refusal


@dataclass(slots=True)
class _Earlier:
    """What can still be read of an earlier run's listing."""

    fingerprint: dict[str, Any] | None = None
    images: int = 0
    whole: bool = True


class Journal:
    """The journal of one output file.  Use :func:`open_journal`."""

    def __init__(self, folder: Path, listing: Listing, keys: bytes) -> None:
        self.folder = folder
        self.listing = listing
        self.notices: list[str] = []
        """What the user should know of an earlier run's journal: what was lost, what has changed since."""
        self._keys = keys
        self._offsets: dict[bytes, int] = {}
        self._rows_path = folder / _ROWS
        self._end = self._recover()
        # No buffer: what a full disk did not take must not be written later, behind a resumed run's back.
        self._stream: FileIO = self._rows_path.open("ab", buffering=0)

    def images(self) -> Iterator[tuple[int, RadiographRef | Refusal]]:
        """The listing in order, one image at a time, each with its index."""
        index = 0
        for line in _lines(self.folder / _LISTING):
            if line is None:
                raise KneeriskError(
                    f"{self.folder / _LISTING} was damaged while the run was on: go on with --resume"
                )
            if line.item is not None:
                yield index, line.item
                index += 1

    def get(self, index: int) -> Record | None:
        """The last record of an image; its own index is the one that the image had when it was scored."""
        offset = self._offsets.get(self.key(index))
        if offset is None:
            return None
        with self._rows_path.open("rb") as stream:
            stream.seek(offset)
            body = _unsealed(stream.readline())
        if body is None:
            raise KneeriskError(f"{self._rows_path} was damaged while the run was on: go on with --resume")
        _, index, sha256, state, rows = json.loads(body)
        return Record(index, sha256, None if state is None else FileState(*state), rows)

    def append(self, records: Sequence[Record]) -> None:
        """Add records; they are on disk when this returns.

        Raises:
            KneeriskError: the journal was taken away: a file that is open can be written all the same, and
                a night's rows would be lost with it.
        """
        keys = [self.key(record.index) for record in records]
        lines = [_sealed(_body(key, record)) for key, record in zip(keys, records, strict=True)]
        left = memoryview(b"".join(lines))
        while left:
            left = left[self._stream.write(left) :]
        os.fsync(self._stream.fileno())
        if not self._rows_path.exists():
            raise KneeriskError(
                f"{self.folder} was taken away while the run was on, and its rows with it: see that its disk "
                "or share is still there and add --resume; what was deleted is scored again"
            )
        for key, line in zip(keys, lines, strict=True):
            self._offsets[key] = self._end
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

    def key(self, index: int) -> bytes:
        """Of 16 bytes, for an image as this run would score it."""
        return self._keys[_KEY_BYTES * index : _KEY_BYTES * (index + 1)]

    def _recover(self) -> int:
        """Index the whole records and drop what fails its CRC; returns the length kept."""
        if not self._rows_path.exists():
            return 0
        damaged = self._index(None)
        if damaged:
            aside = self.folder / f"{_ROWS}.new"
            with aside.open("wb") as kept:
                self._index(kept)
            replace_with(aside, self._rows_path)
            self.notices.append(
                f"the unfinished run's journal had {damaged} damaged or cut-off "
                f"{'record' if damaged == 1 else 'records'}, whose images are scored again; "
                f"{len(self._offsets)} whole ones are kept"
            )
        return self._rows_path.stat().st_size

    def _index(self, kept: IO[bytes] | None) -> int:
        """Note where each whole record lies, or will lie in ``kept``; returns how many were damaged."""
        end = damaged = 0
        with self._rows_path.open("rb") as stream:
            for line in stream:
                key = _key_in(line)
                if key is None:
                    damaged += 1
                    if kept is not None:
                        continue
                else:
                    self._offsets[key] = end
                    if kept is not None:
                        kept.write(line)
                end += len(line)
        return damaged


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
        images: the scan; it is listed anew for a resumed run, too.
        skipped: filled as the scan goes.
        carried: of what kind the manifest's own columns are; text where it says nothing.
        resume: go on where an earlier run stopped; start anew if none did.
        overwrite: throw an earlier run's journal away.

    Raises:
        UsageError: a journal is there and neither option was given, or its fingerprint differs.
        KneeriskError: the images that it lists are gone, as if their disk was missing; the journal stays.
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
        _hold(held, folder)
        if out.exists() and not there_before and not overwrite:
            _leave(folder)
            raise UsageError(
                f"another kneerisk has finished {out.name} just now: look at it, and ask again if need be"
            )
        if overwrite:
            _empty(folder)
        if (folder / _OLD_HEADER).exists():
            raise UsageError(
                f"{folder.name} holds an unfinished run of an earlier version of kneerisk: "
                "finish it with that version, or start again with --overwrite"
            )
        plain = json.loads(json.dumps(fingerprint))
        earlier = _read_listing(folder / _LISTING)
        if earlier.fingerprint is not None:
            refuse_difference(earlier.fingerprint, plain, "the unfinished run")
        try:
            listing, keys, notices = _list_images(folder, plain, images, skipped, carried or {}, earlier)
        except BaseException:
            (folder / f"{_LISTING}.new").unlink(missing_ok=True)
            if all(entry.name.startswith(_LOCK) for entry in folder.iterdir()):
                shutil.rmtree(folder)  # nothing to go on with, and in the way of the next try
            raise
        journal = Journal(folder, listing, keys)
        journal.notices[:0] = notices
        try:
            yield journal
        finally:
            journal.close()


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
        held.callback(_leave_if_bare, folder)
        _hold(held, folder)
        if any((folder / name).exists() for name in (_LISTING, _ROWS, _OLD_HEADER)):
            raise UsageError(f"{folder.name} holds an unfinished run: finish it, or choose another --out")
        _empty(folder)
        try:
            yield folder
        finally:
            _empty(folder)
            _leave(folder)


def _hold(held: ExitStack, folder: Path) -> None:
    try:
        held.enter_context(locked(folder / _LOCK, wait=False))
    except BusyError:
        raise UsageError(
            f"another kneerisk is at work in {folder.name}: wait for it, or choose another --out"
        ) from None
    for entry in folder.iterdir():
        if entry.is_symlink():  # none is ours, and through it a file elsewhere would be written
            entry.unlink()


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


def _read_listing(path: Path) -> _Earlier:
    """An earlier run's listing, as far as it is there and its lines are whole."""
    earlier = _Earlier()
    if not path.exists():
        return earlier
    end: Listing | None = None
    for line in _lines(path):
        if line is None:
            earlier.whole = False
        elif line.fingerprint is not None:
            earlier.fingerprint = line.fingerprint
        elif line.item is not None:
            earlier.images += 1
        else:
            end = line.listing
    if earlier.fingerprint is None or end is None or end.images != earlier.images:
        earlier.whole = False
    return earlier


def _list_images(
    folder: Path,
    fingerprint: Fingerprint,
    images: Iterable[RadiographRef | Refusal],
    skipped: Mapping[str, int],
    carried: Mapping[str, CarriedKind],
    earlier: _Earlier,
) -> tuple[Listing, bytes, list[str]]:
    """Scan into a new listing, which takes the place of an earlier one; each image's key; notices."""
    settings = json.dumps(fingerprint, sort_keys=True).encode()
    digest, keys = PathsDigest(), bytearray()
    extra: dict[str, CarriedKind] = {}
    aside = folder / f"{_LISTING}.new"
    found = Found()
    with aside.open("wb") as stream:
        stream.write(_sealed(json.dumps({"fingerprint": fingerprint}).encode()))
        for item in images:
            ref = item if isinstance(item, RadiographRef) else item.ref
            digest.add(ref.source_path)
            extra.update({name: carried.get(name, "text") for name in ref.extra})
            kind = "refusal" if isinstance(item, Refusal) else "ref"
            body = json.dumps({kind: to_plain(item)}).encode()
            keys += hashlib.blake2b(settings + body, digest_size=_KEY_BYTES).digest()
            stream.write(_sealed(body))
            if earlier.images:
                found.add(item)
        listing = Listing(len(keys) // _KEY_BYTES, digest.hexdigest(), extra, dict(skipped))
        stream.write(_sealed(json.dumps({"listing": to_plain(listing)}).encode()))
    notices = []
    if earlier.images:
        lines = (line.item for line in _lines(folder / _LISTING) if line is not None)
        items = (item for item in lines if item is not None)
        notices += found.compare(items, whole=earlier.whole)
    if not earlier.whole:
        notices.append("the unfinished run's list of images was damaged: it was made again from the inputs")
    replace_with(aside, folder / _LISTING)
    return listing, bytes(keys), notices


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


def _lines(path: Path) -> Iterator[_Line | None]:
    """A listing's lines; ``None`` for one that is damaged."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            body = _unsealed(line)
            try:
                found = None if body is None else from_plain(_Line, json.loads(body), f"line {number}")
            except ValueError:  # of another version, as the settings say
                found = None
            yield found


def _body(key: bytes, record: Record) -> bytes:
    state = (
        None if record.state is None else [record.state.size, record.state.mtime_ns, record.state.ctime_ns]
    )
    body = [key.hex(), record.index, record.input_sha256, state, record.rows]
    return json.dumps(body, allow_nan=False).encode()


def _key_in(line: bytes) -> bytes | None:
    """Of a record's line; ``None`` where it is damaged, or whole and no record."""
    body = _unsealed(line)
    try:
        key, index, _, state, rows = json.loads(body or b"")
        is_record = isinstance(index, int) and isinstance(state, list | None) and isinstance(rows, list)
        return bytes.fromhex(key) if is_record else None
    except (TypeError, ValueError):
        return None


def _sealed(body: bytes) -> bytes:
    """A line: a CRC, which finds every flip of up to 32 neighbouring bits, and what it is of."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _unsealed(line: bytes) -> bytes | None:
    """What was sealed, or ``None`` where the line is damaged or torn."""
    check, _, body = line.partition(b" ")
    if not line.endswith(b"\n") or check != b"%08x" % zlib.crc32(body[:-1]):
        return None
    return body[:-1]
