"""The journal itself: records are added as rows are made, and an earlier run's are taken over."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.records import CarriedKind, RadiographRef, Refusal
from kneerisk.scoring.journal.folder import (
    LISTING,
    LOCK,
    OLD_HEADER,
    ROWS,
    empty,
    folder_of,
    hold,
    leave,
    leave_if_bare,
)
from kneerisk.scoring.journal.listing import (
    KEY_BYTES,
    Fingerprint,
    Listing,
    lines_of,
    list_images,
    read_listing,
)
from kneerisk.scoring.journal.record import Record, key_in, line_of, record_in
from kneerisk.scoring.outputs.table import replace_with


class Journal:
    """The journal of one output file.  Use :func:`open_journal`."""

    def __init__(self, folder: Path, listing: Listing, keys: bytes) -> None:
        self.folder = folder
        self.listing = listing
        self.notices: list[str] = []
        """What the user should know of an earlier run's journal: what was lost, what has changed since."""
        self._keys = keys
        self._offsets: dict[bytes, int] = {}
        self._rows_path = folder / ROWS
        self._end = self._recover()
        # No buffer: what a full disk did not take must not be written later, behind a resumed run's back.
        self._stream: FileIO = self._rows_path.open("ab", buffering=0)

    def images(self) -> Iterator[tuple[int, RadiographRef | Refusal]]:
        """The listing in order, one image at a time, each with its index."""
        index = 0
        for line in lines_of(self.folder / LISTING):
            if line is None:
                raise KneeriskError(
                    f"{self.folder / LISTING} was damaged while the run was on: go on with --resume"
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
            record = record_in(stream.readline())
        if record is None:
            raise KneeriskError(f"{self._rows_path} was damaged while the run was on: go on with --resume")
        return record

    def append(self, records: Sequence[Record]) -> None:
        """Add records; they are on disk when this returns.

        Raises:
            KneeriskError: the journal was taken away: a file that is open can be written all the same, and
                a night's rows would be lost with it.
        """
        keys = [self.key(record.index) for record in records]
        lines = [line_of(key, record) for key, record in zip(keys, records, strict=True)]
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
        empty(self.folder)
        leave(self.folder)

    def key(self, index: int) -> bytes:
        """Of 16 bytes, for an image as this run would score it."""
        return self._keys[KEY_BYTES * index : KEY_BYTES * (index + 1)]

    def _recover(self) -> int:
        """Index the whole records and drop what fails its CRC; returns the length kept."""
        if not self._rows_path.exists():
            return 0
        damaged = self._index(None)
        if damaged:
            aside = self.folder / f"{ROWS}.new"
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
                key = key_in(line)
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
        held.callback(leave_if_bare, folder)
        hold(held, folder)
        if out.exists() and not there_before and not overwrite:
            leave(folder)
            raise UsageError(
                f"another kneerisk has finished {out.name} just now: look at it, and ask again if need be"
            )
        if overwrite:
            empty(folder)
        if (folder / OLD_HEADER).exists():
            raise UsageError(
                f"{folder.name} holds an unfinished run of an earlier version of kneerisk: "
                "finish it with that version, or start again with --overwrite"
            )
        plain = json.loads(json.dumps(fingerprint))
        earlier = read_listing(folder / LISTING)
        if earlier.fingerprint is not None:
            refuse_difference(earlier.fingerprint, plain, "the unfinished run")
        try:
            listing, keys, notices = list_images(folder, plain, images, skipped, carried or {}, earlier)
        except BaseException:
            (folder / f"{LISTING}.new").unlink(missing_ok=True)
            if all(entry.name.startswith(LOCK) for entry in folder.iterdir()):
                shutil.rmtree(folder)  # nothing to go on with, and in the way of the next try
            raise
        journal = Journal(folder, listing, keys)
        journal.notices[:0] = notices
        try:
            yield journal
        finally:
            journal.close()


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
