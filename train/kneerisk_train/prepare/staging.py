"""Finished radiographs on disk while a run is on, so that a killed run goes on where it was.

    OUT/.unfinished/
      run.json        what the crops depend on; a run goes on only where it is the same
      crops.bin       compressed crops, one after another
      records.jsonl   a line a radiograph: a checksum, its index, its knees and where their crops lie
      lock            held while a run works here

A crop is written before the line that speaks of it: a kill tears at most the last line, and its radiograph is
done again.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import locked, written_whole
from kneerisk_engines.plain import from_plain, to_plain

from kneerisk.errors import KneeriskError, UsageError
from kneerisk_train.prepare.crops import Cropped

FOLDER = ".unfinished"
_SYNC_EVERY = 64


class Staging:
    """The records of one run.  Use :func:`open_staging`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[int, int] = {}
        """Index of a radiograph → where its line begins."""
        self._records_end, self._crops_end = self._recover()
        self._records = (folder / "records.jsonl").open("ab")
        self._crops = (folder / "crops.bin").open("ab")

    def __contains__(self, index: int) -> bool:
        return index in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, index: int, knees: Sequence[Cropped]) -> None:
        """Keep one radiograph's outcome.

        Raises:
            OSError: the disk is full, say.
        """
        stored: list[dict[str, Any]] = []
        for knee in knees:
            plain = to_plain(replace(knee, pixels=b""))
            plain["pixels"] = [self._crops_end, len(knee.pixels), zlib.crc32(knee.pixels)]
            self._crops.write(knee.pixels)
            self._crops_end += len(knee.pixels)
            stored.append(plain)
        self._crops.flush()
        body = json.dumps([index, stored], allow_nan=False).encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        self._records.write(line)
        self._records.flush()
        self._lines[index] = self._records_end
        self._records_end += len(line)
        if len(self._lines) % _SYNC_EVERY == 0:
            os.fsync(self._crops.fileno())
            os.fsync(self._records.fileno())

    def read(self, *, with_pixels: bool) -> Iterator[tuple[int, list[Cropped]]]:
        """All radiographs by index, one at a time; their crops' bytes only where asked for."""
        with (
            (self._folder / "records.jsonl").open("rb") as lines,
            (self._folder / "crops.bin").open("rb") as crops,
        ):
            for index in sorted(self._lines):
                lines.seek(self._lines[index])
                record = _parse(lines.readline())
                assert record is not None
                knees = []
                for plain in record[1]:
                    start, length, checksum = plain["pixels"]
                    pixels = b""
                    if with_pixels and length:
                        crops.seek(start)
                        pixels = crops.read(length)
                        if zlib.crc32(pixels) != checksum:
                            raise KneeriskError(
                                f"{self._folder / 'crops.bin'} is damaged: run again with --overwrite"
                            )
                    knees.append(_cropped(plain, pixels))
                yield index, knees

    def close(self) -> None:
        """Close the files; they stay."""
        self._records.close()
        self._crops.close()

    def _recover(self) -> tuple[int, int]:
        """Find the whole lines, and cut off what a kill left behind them; returns both files' lengths."""
        records, crops = self._folder / "records.jsonl", self._folder / "crops.bin"
        records.touch()
        crops.touch()
        there = crops.stat().st_size
        end = crops_end = 0
        with records.open("rb") as stream:
            for line in stream:
                record = _parse(line)
                ends = [] if record is None else [k["pixels"][0] + k["pixels"][1] for k in record[1]]
                if record is None or any(e > there for e in ends):
                    break
                self._lines[record[0]] = end
                end += len(line)
                crops_end = max([crops_end, *ends])
        os.truncate(records, end)
        os.truncate(crops, crops_end)
        return end, crops_end


@contextmanager
def open_staging(out: Path, marks: Mapping[str, Any]) -> Iterator[Staging]:
    """Open the staging of an output folder: a new one, or the one that an earlier run of the same left.

    Args:
        out: the output folder; made if need be.
        marks: what crops depend on, as plain JSON.

    Raises:
        UsageError: what is there is of another run, or another one is at work.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder / "lock", wait=False))
        except BusyError:
            raise UsageError(
                f"another kneerisk prepares {folder.parent}: wait for it, or choose another --out"
            ) from None
        run = folder / "run.json"
        if run.exists():
            before = json.loads(run.read_text(encoding="utf-8"))
            differing = sorted(k for k in {*before, *marks} if before.get(k) != marks.get(k))
            if differing:
                raise UsageError(
                    f"the unfinished run in {out} differs from this one in: {', '.join(differing)}; give the "
                    "same arguments to go on with it, --overwrite to throw it away, or another --out"
                )
        else:
            with written_whole(run) as aside:
                aside.write_text(json.dumps(marks, indent=1), encoding="utf-8")
        staging = Staging(folder)
        try:
            yield staging
        finally:
            staging.close()


def remove(out: Path) -> None:
    """The output is in place, or is to be begun anew."""
    if (out / FOLDER).is_dir():
        shutil.rmtree(out / FOLDER)


def _parse(line: bytes) -> tuple[int, list[dict[str, Any]]] | None:
    """A line's radiograph and knees; ``None`` where it is torn."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    try:
        if not line.endswith(b"\n") or int(checksum, 16) != zlib.crc32(body):
            return None
        index, knees = json.loads(body)
    except ValueError:
        return None
    return int(index), list(knees)


def _cropped(plain: dict[str, Any], pixels: bytes) -> Cropped:
    knee = from_plain(Cropped, {name: plain[name] for name in plain if name != "pixels"}, "records.jsonl")
    return replace(knee, pixels=pixels)
