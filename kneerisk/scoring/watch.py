"""Score what arrives: a folder that fills, or a PACS. A part of the table for every handful of new images.

    OUT/part-000001.parquet, part-000002.parquet, …    each a whole table; read them together as OUT/*.parquet

Nothing else is kept: what was scored is what the parts hold, so that a watch that was stopped, or killed,
goes on where its parts end. A part that a kill left unfinished is scored again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from threading import Event

from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import locked

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places.place import is_remote, scheme_of
from kneerisk.scoring.chain import Item, Rooms, source_path_of
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.summary import Summary
from kneerisk.scoring.run import score_images
from kneerisk.scoring.settings import RunSettings
from kneerisk.storage import writing

log = logging.getLogger(__name__)

_TO_GO_ON = "start the watch again: it goes on where its parts end"
_LOCK = ".watch.lock"
_PICTURES = ("previews", "dicom_sr", "dicom_sc")


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How to watch."""

    out: Path
    """Folder of the parts."""
    every: float = 10.0
    """Seconds between two looks."""
    most: int = 64
    """Images of one part: what is waited for at a clean stop, and what a kill costs."""
    settled: float = 2.0
    """Seconds for which a file must not have changed: it may still be on its way."""
    once: bool = False
    """End when nothing new is there."""
    send: Path | None = None
    """A PACS (``dicomweb://…``) that reports and captures are stored in."""

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise UsageError(f"--every must be above 0 seconds; got {self.every}")
        if self.most < 1:
            raise UsageError(f"--most must be at least 1; got {self.most}")
        if is_remote(self.out) or self.out.is_file():
            raise UsageError(
                f"--out {self.out}: a watch writes parts of a table into a folder of this machine"
            )
        if self.send is not None and not str(scheme_of(self.send)).startswith("dicomweb"):
            raise UsageError(f"--send {self.send}: name a PACS, as in dicomweb://server/dicom-web")


def watch_images(
    look: Callable[[], Iterator[Item]],
    rooms: Rooms,
    run: RunSettings,
    settings: WatchSettings,
    marks: Callable[[RunSettings], dict[str, object]],
    stop: Event,
    send: Callable[[list[Path]], None] | None = None,
) -> Iterator[Summary]:
    """Score new images until ``stop`` is set: yields the summary of each part that was written.

    Args:
        look: lists everything that is there, new or not.
        rooms: the chain's, open.
        run: all but its ``out``; pictures and reports go into a folder for each part.
        settings: how to watch.
        marks: a part's settings → its fingerprint.
        stop: ends the watch between two parts, or while it waits.
        send: stores files in a PACS; OSError where it does not take them.

    Raises:
        UsageError: another watch writes there, or what lies there is no table.
        StorageError: the disk does not take a part; started again, the watch goes on where its parts end.
        KneeriskError: the first look failed. Later ones are tried again at the next.
    """
    with writing(settings.out):
        settings.out.mkdir(parents=True, exist_ok=True)
    with _alone(settings.out):
        parts = sorted(settings.out.glob("part-*.parquet"))
        known = {path for part in parts for path in table.read(part)["source_path"]}
        number = 1 + max((_number(part) for part in parts), default=0)
        looked = False
        while not stop.is_set():
            try:
                new = list(islice(_new(look(), known, settings.settled), settings.most))
            except KneeriskError as error:
                if not looked:
                    raise
                log.warning("%s; the next look is in %g s", error, settings.every)
                new = []
            looked = True
            if new:
                part = _part(run, settings.out / f"part-{number:06d}.parquet")
                steps = score_images(iter(new), {}, rooms, part, marks(part), Clock(), to_go_on=_TO_GO_ON)
                for summary in (step for step in steps if isinstance(step, Summary)):
                    if send is not None:
                        _send(part, send)
                    yield summary
                known.update(map(source_path_of, new))
                number += 1
            elif settings.once:
                return
            if len(new) < settings.most and not settings.once:
                stop.wait(settings.every)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two watches would write parts of the same numbers over each other's."""
    lock = out / _LOCK
    try:
        with locked(lock, wait=False):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    except BusyError:
        raise UsageError(
            f"another kneerisk watch writes into {out}: stop it, or choose another --out"
        ) from None


def _number(part: Path) -> int:
    """Of a part; 0 of a table that somebody laid among them, whose images are not scored again."""
    digits = part.stem.removeprefix("part-")
    return int(digits) if digits.isdecimal() else 0


def _new(items: Iterator[Item], known: set[str], settled: float) -> Iterator[Item]:
    for item in items:
        if source_path_of(item) not in known and _is_settled(item, settled):
            yield item


def _is_settled(item: Item, seconds: float) -> bool:
    path = (item if not hasattr(item, "ref") else item.ref).path
    if is_remote(path):
        return True
    try:
        return time.time() - path.stat().st_mtime >= seconds
    except OSError:
        return True  # its row says why it cannot be read


def _part(run: RunSettings, out: Path) -> RunSettings:
    """A part's own settings; an unfinished part of the same name is thrown away."""
    folders = {name: getattr(run, name) / out.stem for name in _PICTURES if getattr(run, name) is not None}
    return replace(run, out=out, overwrite=True, **folders)


def _send(part: RunSettings, send: Callable[[list[Path]], None]) -> None:
    files = [f for folder in (part.dicom_sr, part.dicom_sc) if folder for f in sorted(folder.glob("*.dcm"))]
    try:
        send(files)
    except OSError as error:
        log.warning(
            "%s: its %d reports and captures were not stored (%s): send them yourself from where they lie",
            *(part.out.name, len(files), error.strerror),
        )
