"""One run: what an earlier one left, the chain, the journal, the table."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.records import Refusal
from kneerisk.scoring.chain import Item, Keeper, Known, Rooms, Walk, locate, records
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.gone import refuse_if_gone
from kneerisk.scoring.journal import Journal, Listing, Record, folder_of, open_journal, refuse_difference
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.contact_sheet import ContactSheet
from kneerisk.scoring.outputs.futures import FuturesKeeper
from kneerisk.scoring.outputs.previews import PreviewKeeper
from kneerisk.scoring.outputs.rows import Row, check_carried
from kneerisk.scoring.outputs.summary import Summary, Tally
from kneerisk.scoring.settings import RunSettings

_SEED_RECORDS = 500


class StoppedOnErrorError(KneeriskError):
    """``--on-error stop`` met a failed row."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What the user should know before anything is scored."""

    message: str


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


def score_images(
    images: Iterable[Item],
    skipped: Mapping[str, int],
    rooms: Rooms,
    run: RunSettings,
    fingerprint: Mapping[str, Any],
    clock: Clock,
) -> Iterator[Notice | Progress | Summary]:
    """Score a scan into ``run.out``: notices, progress as rows reach the journal, and last the summary.

    Raises:
        UsageError: the output exists, or cannot be resumed as asked; nothing was changed.
        StoppedOnErrorError: a row failed and ``run.on_error`` is ``stop``; the journal is kept.
    """
    finished = run.out.exists() and not folder_of(run.out).exists()
    _refuse_to_clobber(run, fingerprint, finished)
    with ExitStack() as stack:
        with clock.stage("scan"):
            journal = stack.enter_context(
                open_journal(
                    run.out, fingerprint, images, skipped, resume=run.resumes, overwrite=run.overwrite
                )
            )
        yield from map(Notice, journal.notices)
        yield from _score(journal, rooms, run, fingerprint, clock, finished and run.resumes)


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
        refuse_difference(before["fingerprint"], fingerprint, f"the table {run.out.name}")
        if run.futures is not None:
            raise UsageError(
                "--futures is written anew by each run: score with --overwrite, or leave --futures out"
            )


def _score(
    journal: Journal,
    rooms: Rooms,
    run: RunSettings,
    fingerprint: Mapping[str, Any],
    clock: Clock,
    seeded: bool,
) -> Iterator[Notice | Progress | Summary]:
    started = datetime.now(UTC)
    listing = journal.listing
    try:
        check_carried(listing.extra)
    except UsageError:
        journal.remove()  # or it would stand in the way of the mended manifest
        raise
    if seeded:
        _take_over(journal, run)
    indexes = range(run.shard.index - 1, listing.images, run.shard.count)[: run.limit]
    keepers: list[Keeper] = []
    futures = sheet = None
    if run.previews is not None:
        keepers.append(PreviewKeeper(run.previews))
        sheet = ContactSheet(run.previews, "index" if run.shard.count == 1 else f"index-{run.shard.index}")
    if run.futures is not None:
        futures = FuturesKeeper(journal.folder / "futures")
        keepers.append(futures)

    def earlier(index: int) -> Record | None:
        record = journal.get(index)
        if record is None or (run.retry_failed and record.failed):
            return None
        # Pictures and futures are kept under the number of their image, which others that came may shift.
        return None if keepers and record.index != index else record

    walk = Walk(run.workers, run.timeout, run.batch_size)
    ours = ((index, item) for index, item in journal.images() if index in indexes)
    located = locate(ours, rooms.read, rooms.localise, walk, clock, earlier, rooms.predictor.views)
    done = rows = not_ok = reused = 0
    yield Progress(done, len(indexes), rows, not_ok, reused)
    for part in records(located, rooms, walk, clock, keepers):
        if isinstance(part, Known):
            done, reused = done + 1, reused + 1
        else:
            with clock.stage("journal"):
                journal.append(part)
            done += len(part)
            rows += sum(len(record.rows) for record in part)
            not_ok += sum(row["status"] != "ok" for record in part for row in record.rows)
            if run.on_error == "stop":
                _stop_if_failed(part, run)
        yield Progress(done, len(indexes), rows, not_ok, reused)

    tally = Tally()
    summarise = _summariser(tally, listing, rooms, run, clock, reused)

    def documents() -> table.Metadata:
        return table.metadata(
            run_manifest(fingerprint, listing, run, started, summarise()),
            json.loads(rooms.calibration.to_json()),
            listing.extra,
        )

    if not listing.images:  # an empty shard of a scan is a table without rows; an empty scan is none
        journal.remove()
        yield summarise()
        return
    with clock.stage("table"):
        if futures is not None and run.futures is not None:
            futures.gather(run.futures, fingerprint, _scored(journal, indexes))
        counts = [tally] if sheet is None else [tally, sheet]
        table.write(_counted(journal, indexes, counts), run.out, documents, listing.extra, journal.folder)
    if sheet is not None:
        sheet.write(run.out.name, [alarm.message for alarm in summarise().alarms])
    journal.remove()
    yield summarise()


def run_manifest(
    fingerprint: Mapping[str, Any], listing: Listing, run: RunSettings, started: datetime, summary: Summary
) -> dict[str, Any]:
    """What the file says of the run that made it."""
    return {
        "fingerprint": dict(fingerprint),
        "images_in_scan": listing.images,
        "scan_sha256": listing.sha256,
        "shard": str(run.shard),
        "limit": run.limit,
        "carried_columns": list(listing.extra),
        "alarms": [asdict(alarm) for alarm in summary.alarms],
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
    records = _by_image(iter(table.read(run.out).iter_rows(named=True)))
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


def _by_image(rows: Iterator[Row]) -> Iterator[Record]:
    held: list[Row] = []
    for row in rows:
        if held and held[0]["image_index"] != row["image_index"]:
            yield Record(held[0]["image_index"], held[0]["input_sha256"], None, held)
            held = []
        held.append(row)
    if held:
        yield Record(held[0]["image_index"], held[0]["input_sha256"], None, held)


def _stop_if_failed(part: list[Record], run: RunSettings) -> None:
    for record in part:
        for row in record.rows:
            if row["status"] == "failed":
                raise StoppedOnErrorError(
                    f"{row['source_path']}: {row['message']} [{row['reason']}]. "
                    "Stopped, as --on-error stop asks; the rows so far are kept: "
                    f"mend the file and add --retry-failed to go on with {run.out.name}"
                )


def _scored(journal: Journal, indexes: range) -> Iterator[tuple[int, str]]:
    """Image and side of each scored knee, in the table's order."""
    for index in indexes:
        record = journal.get(index)
        for row in record.rows if record is not None else []:
            if row["status"] == "ok":
                yield index, row["side"]


def _counted(journal: Journal, indexes: range, counts: Sequence[Tally | ContactSheet]) -> Iterator[Row]:
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
    tally: Tally, listing: Listing, rooms: Rooms, run: RunSettings, clock: Clock, reused: int
) -> Callable[[], Summary]:
    return lambda: tally.summary(
        str(run.out),
        rooms.calibration,
        skipped=listing.skipped,
        reused=reused,
        seconds=clock.elapsed(),
        stages=clock.seconds(),
    )
