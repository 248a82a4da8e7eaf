"""Images that were being read when a run died, written down before they are opened.

A file that ends the process that reads it costs a row (see ``radiograph/apart``). But a system may end all
processes of a job at once, as a container does that runs out of memory: then the run dies with the reader,
and would do so at every resume. So the journal's folder holds the key of each image while it is read. A
resumed run reads those that it finds there first, one at a time, so that the innocent are cleared; one that
was being read when three runs died gets a row unopened. Runs are killed for other reasons, too: hence three.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kneerisk.errors import Reason
from kneerisk.records import Radiograph, RadiographRef, Refusal

NAME = "suspects"
_KEY_BYTES = 16
_SLOT = _KEY_BYTES + 2
"""Bytes: a key, how many runs died as its image was read, and whether it is being read now."""
_SPARE = 64
"""Slots for images under way, more than there are threads that read."""
_ENOUGH = 3


class Suspects:
    """What was being read when earlier runs died, and what is being read now."""

    def __init__(self, folder: Path, key: Callable[[int], bytes], *, pardon: bool = False) -> None:
        """Take over what an earlier run left in the journal's folder.

        Args:
            folder: the journal's.
            key: an image's, of 16 bytes.
            pardon: try again even what was given up, alone.
        """
        self._key = key
        self._deaths: dict[bytes, int] = {}
        path = folder / NAME
        slots = bytearray()
        with suppress(OSError):
            before = path.read_bytes()
            for at in range(0, len(before) - _SLOT + 1, _SLOT):
                mark, deaths, is_open = before[at : at + _KEY_BYTES], *before[at + _KEY_BYTES : at + _SLOT]
                if deaths + is_open and mark not in self._deaths:
                    self._deaths[mark] = 1 if pardon else min(deaths + is_open, 255)
                    slots += mark + bytes((self._deaths[mark], 0))
        self._own = {mark: number for number, mark in enumerate(self._deaths)}
        self._free = list(range(len(self._own), len(self._own) + _SPARE))
        self._lock = threading.Lock()
        self._left = bytes(slots) + bytes(_SLOT * _SPARE)
        """What the file holds while nothing is read."""
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._write(0, self._left)

    def __enter__(self) -> Suspects:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is being read any more, as far as the next run is to know: this one ended in words."""
        self._write(0, self._left)
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def __contains__(self, index: int) -> bool:
        return self._key(index) in self._deaths

    def __len__(self) -> int:
        return len(self._deaths)

    def read(
        self, index: int, ref: RadiographRef, read: Callable[[RadiographRef], Radiograph | Refusal]
    ) -> Radiograph | Refusal:
        """Read an image, unless three runs died as it was read."""
        mark = self._key(index)
        deaths = self._deaths.get(mark, 0)
        if deaths >= _ENOUGH:
            return Refusal(
                ref,
                Reason.READER_CRASHED,
                f"{deaths} runs ended without a word while the file was being read (of a lack of memory, "
                "perhaps): it was not opened again; leave it out, or try it alone with --retry-failed",
            )
        with self._lock:
            slot = self._own[mark] if mark in self._own else (self._free.pop() if self._free else None)
        if slot is None:
            return read(ref)
        self._write(slot, mark + bytes((deaths, 1)))
        try:
            return read(ref)
        finally:
            self._write(slot, self._left[slot * _SLOT : (slot + 1) * _SLOT])
            if mark not in self._own:
                with self._lock:
                    self._free.append(slot)

    def _write(self, slot: int, content: bytes) -> None:
        with (
            self._lock,
            suppress(OSError),
        ):  # of a disk that is full: no file's fault, and the journal says it
            if self._file is not None:
                os.pwrite(self._file, content, slot * _SLOT)
