"""The chain over images: read and localise in threads, ahead → predict in batches → risk → records, in order.

While the networks work on a batch, the threads decode, localise and standardise the images of the next: the
slower of the two sides sets the pace.

Nothing here knows a file format or a network: the rooms come as functions, and tests bring their own.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol

from kneerisk_engines.files import sha256_file

from kneerisk.errors import KneeriskError, Reason
from kneerisk.method.calibration import Calibration
from kneerisk.method.predict import Predictor
from kneerisk.method.recalibration import Recalibration
from kneerisk.method.score import score
from kneerisk.places.place import is_remote
from kneerisk.places.reach import read_bytes
from kneerisk.records import (
    FloatArray,
    ForecastPicture,
    KneeCrop,
    KneeScore,
    Radiograph,
    RadiographRef,
    Refusal,
    refuse,
    too_slow,
)
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.journal.record import FileState, Record
from kneerisk.scoring.outputs.rows import Row, row_of_refusal, row_of_score
from kneerisk.scoring.overlap import Task, ordered_map

Item = RadiographRef | Refusal
Read = Callable[[RadiographRef], Radiograph | Refusal]
Watched = Callable[[int, RadiographRef, Read], Radiograph | Refusal]
"""Reads an image, given its index, by the function that it is handed."""
Localise = Callable[[Radiograph], Sequence[KneeCrop | Refusal]]
"""Called in threads, as ``Read`` is."""
Views = Callable[[KneeCrop], FloatArray]
Earlier = Callable[[int], Record | None]
"""Index of an image → its record of an earlier run."""

_MAX_IMAGES_A_BATCH = 256
"""Images without a knee fill no batch; their rows reach the journal all the same."""


def ref_of(item: Item) -> RadiographRef:
    """Which file an item of the scan is of."""
    return item.ref if isinstance(item, Refusal) else item


def source_path_of(item: Item) -> str:
    """As the table shows it, of an image or of what stands in its place."""
    return ref_of(item).source_path


@dataclass(frozen=True, slots=True)
class Notice:
    """What the user should know now, before anything is scored or in the middle of it."""

    message: str


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the chain is made of."""

    read: Read
    localise: Localise
    predictor: Predictor
    calibration: Calibration
    provenance: Mapping[str, Any]
    """The columns from ``stack`` to ``kneerisk_version``."""
    parallel: int = 1
    """Batches that the predictor takes at once, in threads."""
    hide: Callable[[KneeScore | Refusal], KneeScore | Refusal] = lambda knee: knee
    """Takes out of an outcome what must not be written: see :mod:`.pseudonyms`."""
    recalibration: Recalibration | None = None
    """Maps ``risk_12m`` to a cohort's own rates."""
    origin: Callable[[Path], Any] = lambda path: None
    """File → its DICOM header, for reports that refer to it."""

    def score(
        self,
        images: Iterable[tuple[int, Item]],
        walk: Walk,
        clock: Clock,
        earlier: Earlier,
        keepers: Sequence[Keeper] = (),
        reporters: Sequence[Reporter] = (),
    ) -> Iterator[list[Record] | Known | Notice]:
        """See :class:`Scorer`; in order."""
        images = iter(images)
        parts = [(images, walk)]
        if walk.alone:
            parts.insert(0, (islice(images, walk.alone), replace(walk, workers=1)))
            yield Notice(
                f"an earlier run ended without a word while it read {walk.alone} of the files: "
                "these are read first, one at a time"
            )
        for part, how in parts:
            located = locate(part, self.read, self.localise, how, clock, earlier, self.predictor.views)
            yield from records(located, self, how, clock, keepers, reporters)


class Scorer(Protocol):
    """What makes records of images: this process (:class:`Rooms`), or a cluster (:class:`.spread.Spread`)."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """As in :class:`Rooms`."""

    @property
    def calibration(self) -> Calibration:
        """Of the stack."""

    @property
    def recalibration(self) -> Recalibration | None:
        """To a cohort's own rates."""

    @property
    def origin(self) -> Callable[[Path], Any]:
        """File → its header."""

    def score(
        self,
        images: Iterable[tuple[int, Item]],
        walk: Walk,
        clock: Clock,
        earlier: Earlier,
        keepers: Sequence[Keeper] = (),
        reporters: Sequence[Reporter] = (),
    ) -> Iterator[list[Record] | Known | Notice]:
        """One record of each image, or word that an earlier one holds; pulled lazily, in any order.

        Called once: a cluster is let go when its images are done.

        Args:
            images: the scan's items, each with its index.
            walk: how they are walked.
            clock: what the stages are counted in.
            earlier: an image's record of an earlier run, where there is one.
            keepers: see pictures of each scored knee before its record is yielded.
            reporters: see each image's rows before, and may flag them.
        """


class Keeper(Protocol):
    """Keeps something of each scored knee beside the table (previews, futures), before its row is kept."""

    def keep(self, knees: Sequence[tuple[int, KneeScore, ForecastPicture]]) -> None:
        """Of each: its image's index, its score, and the picture of its first sampled future."""


class Reporter(Protocol):
    """Writes something of each image beside the table, from its rows, before they are kept."""

    def report(self, index: int, ref: RadiographRef, rows: Sequence[Row]) -> None:
        """One image's rows; a flag may be added to them."""


def _unwatched(index: int, ref: RadiographRef, read: Read) -> Radiograph | Refusal:
    return read(ref)


@dataclass(frozen=True, slots=True)
class Walk:
    """How the images are walked."""

    workers: int
    timeout: float | None
    batch_size: int
    watched: Watched = _unwatched
    """Of this machine's readers; a cluster has its own way with files that end who reads them."""
    alone: int = 0
    """So many of the images, the first ones, are read one at a time: an earlier run died as it read them."""


@dataclass(frozen=True, slots=True)
class Knee:
    """One knee, ready for the networks."""

    crop: KneeCrop
    views: FloatArray | None
    """[V, S, S]: :meth:`kneerisk.method.predict.Predictor.views`; ``None`` where nothing is predicted."""


@dataclass(frozen=True, slots=True)
class Located:
    """An image whose knees were looked for."""

    index: int
    ref: RadiographRef
    state: FileState | None
    input_sha256: str | None
    knees: Sequence[Knee | Refusal]


@dataclass(frozen=True, slots=True)
class Known:
    """An image whose rows an earlier run made, and whose file has not changed."""

    index: int


@dataclass(frozen=True, slots=True)
class _Fetched:
    state: FileState | None
    input_sha256: str | None = None
    knees: Sequence[Knee | Refusal] | None = None
    """``None``: the earlier record holds."""

    @classmethod
    def refused(cls, state: FileState | None, refusal: Refusal) -> _Fetched:
        return cls(state, refusal.input_sha256, [refusal])


def locate(
    images: Iterable[tuple[int, Item]],
    read: Read,
    localise: Localise,
    walk: Walk,
    clock: Clock,
    earlier: Earlier = lambda index: None,
    views: Views | None = None,
) -> Iterator[Located | Known]:
    """Scan's items → their knees, in order; threads read, localise and make ``views`` while the caller works.

    Whatever a file does, it costs its own row: an exception becomes an ``internal-error``, and a file that
    takes longer than ``walk.timeout`` is given up.
    """

    def fetch(job: Sequence[tuple[int, Item]]) -> list[_Fetched]:
        film = _Film(read)
        return [fetch_one(index, item, film) for index, item in job]

    def fetch_one(index: int, item: Item, film: _Film) -> _Fetched:
        if isinstance(item, Refusal):
            return _Fetched.refused(None, item) if earlier(index) is None else _Fetched(None)
        with clock.stage("read"):
            state = FileState.of(item.path)
            before = earlier(index)
            # A file that cannot be looked at any more keeps its row: its disk may have gone away.
            if before is not None and (state is None or _is_unchanged(before, state, item.path)):
                return _Fetched(state)
            try:
                found = walk.watched(index, item, film.read)
            except KneeriskError:  # nothing of this file: no other would be read either
                raise
            except Exception as error:
                found = _unread(item, error)
        if isinstance(found, Refusal):
            return _Fetched.refused(state, found)
        with clock.stage("localise"):
            knees = _localised(found, localise)
        with clock.stage("standardise"):
            return _Fetched(state, found.input_sha256, [_ready(knee, views) for knee in knees])

    # A batch's worth ahead: while the networks work on one batch the next fills up.
    ahead = walk.batch_size + 2 * walk.workers
    films = _by_film(images)
    tasks = ordered_map(fetch, films, workers=walk.workers, ahead=ahead, timeout=walk.timeout)
    while True:
        with clock.stage("wait for files"):
            task = next(tasks, None)
        if task is None:
            return
        refs = [ref_of(item) for _, item in task.item]
        for (index, _), ref, fetched in zip(task.item, refs, _results(task, refs, walk.timeout), strict=True):
            if fetched.knees is None:
                yield Known(index)
            else:
                yield Located(index, ref, fetched.state, fetched.input_sha256, fetched.knees)


def records(
    located: Iterable[Located | Known],
    rooms: Rooms,
    walk: Walk,
    clock: Clock,
    keepers: Sequence[Keeper] = (),
    reporters: Sequence[Reporter] = (),
) -> Iterator[list[Record] | Known]:
    """Knees → scored records, a batch of images at a time, in order.

    ``rooms.parallel`` batches are on their way through the networks at once, and others wait ready.
    """

    def through_networks(batch: list[Located | Known]) -> list[KneeScore | Refusal]:
        images = (image for image in batch if isinstance(image, Located))
        with clock.stage("networks"):
            return _scores(
                [knee for image in images for knee in image.knees if isinstance(knee, Knee)], rooms
            )

    tasks = ordered_map(
        through_networks,
        _batches(located, walk.batch_size),
        workers=rooms.parallel,
        ahead=2 * rooms.parallel + 1,
        name="kneerisk-predict",
    )
    while True:
        with clock.stage("wait for networks"):
            task = next(tasks, None)
        if task is None:
            return
        scores = iter(task.value())
        done: list[Record] = []
        kept: list[tuple[int, KneeScore]] = []
        for image in task.item:
            if isinstance(image, Known):
                yield image
                continue
            found = (next(scores) if isinstance(knee, Knee) else knee for knee in image.knees)
            knees = [rooms.hide(knee) for knee in found]
            kept += [(image.index, knee) for knee in knees if isinstance(knee, KneeScore)]
            rows = [_row(knee, rooms.provenance) for knee in knees]
            for reporter in reporters:
                with clock.stage("reports"):
                    reporter.report(image.index, image.ref, rows)
            done.append(Record(image.index, image.input_sha256, image.state, rows))
        _keep(kept, rooms, clock, keepers)
        if done:
            yield done


def _batches(images: Iterable[Located | Known], knees: int) -> Iterator[list[Located | Known]]:
    """Images in order, as many at a time as have ``knees`` knees; those of an earlier run go along."""
    batch: list[Located | Known] = []
    found = 0
    for image in images:
        batch.append(image)
        if isinstance(image, Located):
            found += sum(isinstance(knee, Knee) for knee in image.knees)
        if found >= knees or len(batch) >= _MAX_IMAGES_A_BATCH:
            yield batch
            batch, found = [], 0
    if batch:
        yield batch


def _scores(knees: list[Knee], rooms: Rooms) -> list[KneeScore | Refusal]:
    """One outcome a knee. Should a batch break, its knees go one by one, so that only the culprit fails."""
    if not knees:
        return []
    try:
        views = [knee.views for knee in knees if knee.views is not None]
        predictions = rooms.predictor.predict([knee.crop for knee in knees], views)
        return [
            p if isinstance(p, Refusal) else score(p, rooms.calibration, rooms.recalibration)
            for p in predictions
        ]
    except Exception as error:
        if len(knees) == 1:
            return [refuse(knees[0].crop, Reason.INTERNAL_ERROR, _words(error))]
        return [outcome for knee in knees for outcome in _scores([knee], rooms)]


def _keep(
    knees: Sequence[tuple[int, KneeScore]], rooms: Rooms, clock: Clock, keepers: Sequence[Keeper]
) -> None:
    """A batch's at once: the decoder takes as long for one as for a whole micro-batch."""
    if not knees or not keepers:
        return
    with clock.stage("pictures"):
        pictures = rooms.predictor.pictures([knee.prediction for _, knee in knees])
        found = [(index, knee, picture) for (index, knee), picture in zip(knees, pictures, strict=True)]
        for keeper in keepers:
            keeper.keep(found)


def _row(knee: KneeScore | Refusal, provenance: Mapping[str, Any]) -> Row:
    return row_of_refusal(knee, provenance) if isinstance(knee, Refusal) else row_of_score(knee, provenance)


def _is_unchanged(before: Record, state: FileState | None, path: Path) -> bool:
    """By the file system's word, or else by its content: an earlier row stands for these very bytes."""
    if before.state == state:
        return True
    return before.input_sha256 is not None and before.input_sha256 == _sha256(path)


def _by_film(images: Iterable[tuple[int, Item]]) -> Iterator[list[tuple[int, Item]]]:
    """Neighbours that are one file: a manifest with a row a knee names a film of both knees twice."""
    for _, items in groupby(
        images, key=lambda pair: pair[1].path if isinstance(pair[1], RadiographRef) else pair[0]
    ):
        yield list(items)


class _Film:
    """One file, read once for all rows that name it, unless they differ in the spacing that they give."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._last: Radiograph | None = None

    def read(self, ref: RadiographRef) -> Radiograph | Refusal:
        last = self._last
        if last is not None and last.ref.spacing_mm == ref.spacing_mm:
            own = [flag for flag in last.qc_flags if flag not in last.ref.qc_flags]
            return replace(last, ref=ref, qc_flags=(*ref.qc_flags, *own))
        found = self._read(ref)
        self._last = found if isinstance(found, Radiograph) else None
        return found


def _results(
    task: Task[list[tuple[int, Item]], list[_Fetched]],
    refs: Sequence[RadiographRef],
    timeout: float | None,
) -> list[_Fetched]:
    try:
        return task.value()
    except TimeoutError:
        return [_Fetched.refused(FileState.of(ref.path), too_slow(ref, timeout)) for ref in refs]


def _unread(ref: RadiographRef, error: Exception) -> Refusal:
    return Refusal(ref, Reason.INTERNAL_ERROR, _words(error), input_sha256=_sha256(ref.path))


def _sha256(path: Path) -> str | None:
    """``None`` where the file cannot be read."""
    try:
        if is_remote(path):
            return hashlib.sha256(read_bytes(path, sys.maxsize)).hexdigest()
        return sha256_file(path)
    except OSError:
        return None


def _localised(radiograph: Radiograph, localise: Localise) -> Sequence[KneeCrop | Refusal]:
    try:
        return localise(radiograph)
    except Exception as error:
        return [refuse(radiograph, Reason.INTERNAL_ERROR, _words(error))]


def _ready(knee: KneeCrop | Refusal, views: Views | None) -> Knee | Refusal:
    if isinstance(knee, Refusal):
        return knee
    try:
        return Knee(knee, None if views is None else views(knee))
    except Exception as error:
        return refuse(knee, Reason.INTERNAL_ERROR, _words(error))


def _words(error: Exception) -> str:
    what = f"{type(error).__name__}: {error}"
    return f"kneerisk broke on this file ({what}); the other rows are sound; please report it"
