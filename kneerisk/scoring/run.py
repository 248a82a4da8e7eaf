"""One run: what an earlier one left, the chain, the journal, the table."""

from __future__ import annotations

import json
import platform
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.method.recalibration import Recalibration
from kneerisk.records import CarriedKind, Refusal
from kneerisk.scoring.chain import (
    Item,
    Keeper,
    Known,
    Notice,
    Reporter,
    Scorer,
    Walk,
    source_path_of,
)
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.journal.gone import refuse_if_gone
from kneerisk.scoring.journal.journal import Journal, open_journal, refuse_difference
from kneerisk.scoring.journal.listing import Listing
from kneerisk.scoring.journal.record import Record
from kneerisk.scoring.journal.suspects import Suspects
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.contact_sheet import ContactSheet
from kneerisk.scoring.outputs.futures import FuturesKeeper, check_futures
from kneerisk.scoring.outputs.previews import PreviewKeeper
from kneerisk.scoring.outputs.rows import Row, check_carried
from kneerisk.scoring.outputs.summary import Summary, Tally
from kneerisk.scoring.settings import RunSettings, shareable
from kneerisk.storage import StorageError, in_words

_SEED_RECORDS = 500


class StoppedOnErrorError(KneeriskError):
    """``--on-error stop`` met a failed row."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    done: int
    """Images with their rows in the journal."""
    total: int
    """Images of this run."""
    rows: int
    """Rows made by this run so far."""
    not_ok: int
    """Of these, refused and failed ones."""
    reused: int
    """Images whose rows an earlier run had made."""
    first_failure: str | None = None
    """The first row of this run that failed: its file and why; ``None`` so far."""


def score_images(
    images: Iterable[Item],
    skipped: Mapping[str, int],
    scorer: Scorer,
    run: RunSettings,
    fingerprint: Mapping[str, Any],
    clock: Clock,
    carried: Mapping[str, CarriedKind] | None = None,
    to_go_on: str | None = None,
) -> Iterator[Notice | Progress | Summary]:
    """Score a scan into ``run.out``: notices, progress as rows reach the journal, and last the summary.

    ``to_go_on`` tells a person what to do once a disk is mended; ``None``: to repeat it with ``--resume``.

    Raises:
        UsageError: the output exists, or cannot be resumed as asked; nothing was changed.
        StorageError: the disk of an output failed or is full; the journal is kept.
        StoppedOnErrorError: a row failed and ``run.on_error`` is ``stop``; the journal is kept.
    """
    finished = run.out.exists() and not folder_of(run.out).exists()
    _refuse_to_clobber(run, fingerprint, finished)
    if to_go_on is None:
        to_go_on = f"every finished row is kept: add --resume to go on with {run.out}"
    with _in_the_disks_words(folder_of(run.out), to_go_on), ExitStack() as stack:
        with clock.stage("scan"):
            journal = stack.enter_context(
                open_journal(
                    *(run.out, fingerprint, images, skipped, carried),
                    resume=run.resumes,
                    overwrite=run.overwrite,
                )
            )
        yield from map(Notice, journal.notices)
        yield from _score(journal, scorer, run, fingerprint, clock, finished and run.resumes)


@contextmanager
def _in_the_disks_words(journal: Path, to_go_on: str) -> Iterator[None]:
    """Files cost rows, whatever happens to them; what gets here is the journal's disk, or an output's."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; {to_go_on}") from error
    except OSError as error:
        place = None if error.filename else journal
        raise StorageError(f"the run stopped at {in_words(error, place)}; {to_go_on}") from error


def _refuse_to_clobber(run: RunSettings, fingerprint: Mapping[str, Any], finished: bool) -> None:
    if not run.out.exists() or run.overwrite:
        return
    if not run.resumes:
        raise UsageError(
            f"{run.out} exists: write over it with --overwrite, "
            "or keep its rows with --resume or --retry-failed"
        )
    if finished:
        before = table.read_metadata(run.out)["run"]
        asked, asks = shareable(before["fingerprint"]), shareable(fingerprint)
        refuse_difference(asked, asks, f"the table {run.out.name}")
        if run.futures is not None:
            check_futures(run.futures, asks)


def _score(
    journal: Journal,
    scorer: Scorer,
    run: RunSettings,
    fingerprint: Mapping[str, Any],
    clock: Clock,
    seeded: bool,
) -> Iterator[Notice | Progress | Summary]:
    started = datetime.now(UTC)
    listing = journal.listing
    try:
        check_carried(tuple(listing.extra))
    except UsageError:
        journal.remove()  # or it would stand in the way of the mended manifest
        raise
    if seeded:
        _take_over(journal, run)
    indexes = _ours(journal, run)
    keepers: list[Keeper] = []
    futures = sheet = None
    if run.previews is not None:
        keepers.append(PreviewKeeper(run.previews))
        sheet = ContactSheet(run.previews, "index" if run.shard.count == 1 else f"index-{run.shard.index}")
    if run.futures is not None:
        futures = FuturesKeeper(journal.folder / "futures")
        keepers.append(futures)

    reporters: list[Reporter] = []
    if run.dicom_sr is not None or run.dicom_sc is not None:
        from kneerisk.scoring.outputs.dicom.keepers import DicomKeeper

        reports = DicomKeeper(run.dicom_sr, run.dicom_sc, scorer.origin, scorer.provenance)
        reporters.append(reports)
        if run.dicom_sc is not None:
            keepers.append(reports)

    def earlier(index: int) -> Record | None:
        record = journal.get(index)
        if record is None or (run.retry_failed and record.failed):
            return None
        # Pictures and futures are kept under the number of their image, which others that came may shift.
        return None if keepers and record.index != index else record

    with Suspects(journal.folder, journal.key, pardon=run.retry_failed) as suspects:
        alone = [i for i in indexes if i in suspects and earlier(i) is None] if len(suspects) else []
        rest: Sequence[int] = indexes
        if alone:
            left_over = set(alone)
            rest = array("q", (i for i in indexes if i not in left_over))
        walk = Walk(run.workers, run.timeout, run.batch_size, suspects.read, len(alone))
        ours = chain(_chosen(journal, alone), _chosen(journal, rest))
        done = rows = not_ok = reused = 0
        failure = None
        yield Progress(done, len(indexes), rows, not_ok, reused)
        for part in scorer.score(ours, walk, clock, earlier, keepers, reporters):
            if isinstance(part, Notice):
                yield part
                continue
            if isinstance(part, Known):
                done, reused = done + 1, reused + 1
            else:
                with clock.stage("journal"):
                    journal.append(part)
                done += len(part)
                rows += sum(len(record.rows) for record in part)
                not_ok += sum(row["status"] != "ok" for record in part for row in record.rows)
                if failure is None:
                    failure = _first_failure(part)
                if run.on_error == "stop":
                    _stop_if_failed(part, run)
            yield Progress(done, len(indexes), rows, not_ok, reused, failure)

    tally = Tally()
    left = listing.images - len(indexes)
    summarise = _summariser(tally, listing, scorer, run, clock, reused, left)

    def documents() -> table.Metadata:
        return table.metadata(
            run_manifest(fingerprint, listing, run, started, summarise(), scorer.recalibration),
            json.loads(scorer.calibration.to_json()),
            listing.extra,
        )

    if not listing.images:  # an empty shard of a scan is a table without rows; an empty scan is none
        journal.remove()
        yield summarise()
        return
    with clock.stage("table"):
        if futures is not None and run.futures is not None:
            futures.gather(run.futures, shareable(fingerprint), _scored(journal, indexes))
        counts: list[Tally | ContactSheet] = [tally] if sheet is None else [tally, sheet]
        rows_of_all = _counted(journal, indexes, counts)
        table.write(rows_of_all, run.out, documents, listing.extra, journal.folder, bom=run.bom)
    if sheet is not None:
        sheet.write(run.out.name, [alarm.message for alarm in summarise().alarms])
    journal.remove()
    yield summarise()


def _ours(journal: Journal, run: RunSettings) -> Sequence[int]:
    """The indexes of this run's images, in order; eight bytes each."""
    if run.shard.count == 1:
        return range(journal.listing.images)[: run.limit]
    held = (i for i, item in journal.images() if run.shard.holds(source_path_of(item)))
    return array("q", islice(held, run.limit))


def _chosen(journal: Journal, indexes: Sequence[int]) -> Iterator[tuple[int, Item]]:
    wanted = iter(indexes)
    following = next(wanted, None)
    for index, item in journal.images():
        if index == following:
            yield index, item
            following = next(wanted, None)


def run_manifest(
    fingerprint: Mapping[str, Any],
    listing: Listing,
    run: RunSettings,
    started: datetime,
    summary: Summary,
    recalibration: Recalibration | None = None,
) -> dict[str, Any]:
    """What the file says of the run that made it."""
    recalibrated: dict[str, Any] = {}
    if recalibration is not None:
        digest = fingerprint["calibration"]["sha256"]
        recalibrated = {recalibration.column: {**recalibration.to_json(), "sha256": digest}}
    return {
        "fingerprint": shareable(fingerprint),
        "images_in_scan": listing.images,
        "scan_sha256": listing.sha256,
        "shard": str(run.shard),
        "limit": run.limit,
        "carried_columns": dict(listing.extra),
        "alarms": [asdict(alarm) for alarm in summary.alarms],
        **({"recalibrated": recalibrated} if recalibrated else {}),
        "rows": {"ok": summary.ok, "refused": summary.refused, "failed": summary.failed},
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _take_over(journal: Journal, run: RunSettings) -> None:
    """A finished table's rows become the journal's: only what failed, or changed since, is scored again."""
    before = table.read_metadata(run.out)["run"]
    if before["scan_sha256"] != journal.listing.sha256:
        found, had = journal.listing.images, before["images_in_scan"]
        journal.remove()
        raise UsageError(
            f"cannot resume: {run.out.name} was made of other images ({had} then, {found} now); "
            "score them all with --overwrite, or the new ones into a table of their own"
        )
    carried = journal.listing.extra
    records = _by_image(_as_text(row, carried) for row in table.read(run.out).iter_rows(named=True))
    try:
        kept = _still_so(records, journal.images())
        while part := list(islice(kept, _SEED_RECORDS)):
            journal.append(part)
    except KneeriskError:
        journal.remove()
        raise


def _still_so(records: Iterator[Record], images: Iterator[tuple[int, Item]]) -> Iterator[Record]:
    """Records but those of files that the scan now refuses for another reason than their rows give."""
    record = next(records, None)
    for index, item in images:
        if record is None:
            return
        if record.index != index:
            continue
        if not isinstance(item, Refusal) or any(row["reason"] == item.reason for row in record.rows):
            yield record
        else:
            refuse_if_gone(item)
        record = next(records, None)


def _as_text(row: Row, names: Iterable[str]) -> Row:
    """A table's row as the journal holds it: what a manifest brought is text."""
    return {**row, **{name: None if row[name] is None else str(row[name]) for name in names if name in row}}


def _by_image(rows: Iterator[Row]) -> Iterator[Record]:
    held: list[Row] = []
    for row in rows:
        if held and held[0]["image_index"] != row["image_index"]:
            yield Record(held[0]["image_index"], held[0]["input_sha256"], None, held)
            held = []
        held.append(row)
    if held:
        yield Record(held[0]["image_index"], held[0]["input_sha256"], None, held)


def _first_failure(part: list[Record]) -> str | None:
    failed = (row for record in part for row in record.rows if row["status"] == "failed")
    row = next(failed, None)
    return None if row is None else f"{row['source_path']}: {row['message']} [{row['reason']}]"


def _stop_if_failed(part: list[Record], run: RunSettings) -> None:
    for record in part:
        for row in record.rows:
            if row["status"] == "failed":
                raise StoppedOnErrorError(
                    f"{row['source_path']}: {row['message']} [{row['reason']}]. "
                    "Stopped, as --on-error stop asks; the rows so far are kept: "
                    f"mend the file and add --retry-failed to go on with {run.out.name}"
                )


def _scored(journal: Journal, indexes: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Image and side of each scored knee, in the table's order."""
    for index in indexes:
        record = journal.get(index)
        for row in record.rows if record is not None else []:
            if row["status"] == "ok":
                yield index, row["side"]


def _counted(
    journal: Journal, indexes: Sequence[int], counts: Sequence[Tally | ContactSheet]
) -> Iterator[Row]:
    for index in indexes:
        record = journal.get(index)
        if record is None:
            raise KneeriskError(f"image {index} has no record in the journal; start again with --overwrite")
        for row in record.rows:
            counted = {**row, "image_index": index}
            for count in counts:
                count.add(counted)
            yield counted


def _summariser(
    tally: Tally, listing: Listing, scorer: Scorer, run: RunSettings, clock: Clock, reused: int, left: int
) -> Callable[[], Summary]:
    return lambda: tally.summary(
        str(run.out),
        scorer.calibration,
        scorer.recalibration,
        skipped=listing.skipped,
        reused=reused,
        left=left,
        seconds=clock.elapsed(),
        stages=clock.seconds(),
    )
