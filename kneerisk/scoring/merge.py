"""Join the tables of a run's shards, and prove that nothing is missing and nothing is there twice."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kneerisk.errors import UsageError
from kneerisk.method.calibration import Calibration
from kneerisk.method.recalibration import Recalibration
from kneerisk.places.place import is_remote, url_of
from kneerisk.scoring.chain import Item, source_path_of
from kneerisk.scoring.journal.folder import workspace_of
from kneerisk.scoring.journal.listing import PathsDigest
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.rows import Row
from kneerisk.scoring.outputs.summary import Summary, Tally
from kneerisk.scoring.settings import shareable
from kneerisk.scoring.shards import Shard

_OF_THE_SHARD = frozenset({"shard"})


def merge_tables(
    parts: Sequence[Path],
    out: Path,
    *,
    bom: bool = False,
    overwrite: bool = False,
    against: Iterable[Item] | None = None,
) -> Summary:
    """Write the whole scan's table from its shards', rows in the scan's order.

    Args:
        parts: the tables of every shard, in any order.
        out: ends in .parquet or .csv.
        bom: start a CSV with a byte-order mark.
        overwrite: replace ``out``.
        against: a scan of the cohort as it is now, which the parts must cover.

    Raises:
        UsageError: a shard is missing or there twice; the parts differ in stack, settings or scan; one was
        scored with
            ``--limit``; an image of the scan has no row, or a row is of no image of it; ``against`` has
            other images.
    """
    if bom and table.format_of(out) != "csv":
        raise UsageError(f"--bom marks a .csv, and --out is {out.name}: leave it out")
    table.format_of(out)
    if is_remote(out):
        raise UsageError(f"--out {url_of(out)}: merge writes to this machine; name a file, and copy it")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: write over it with --overwrite, or choose another --out")
    if any(part.resolve() == out.resolve() for part in parts):
        raise UsageError(f"{out} is one of the parts: choose another --out")
    _refuse_same_file(parts)
    documents = {part: table.read_metadata(part) for part in parts}
    runs = {part: found["run"] for part, found in documents.items()}
    _refuse_mixture(runs)
    _refuse_gaps(runs)
    if against is not None:
        _refuse_other_images(parts, runs[parts[0]], against)
    first = documents[parts[0]]
    run = runs[parts[0]]
    carried = run["carried_columns"]
    # Tables of earlier versions list names alone: what they carry is text.
    extra: table.Carried = carried if isinstance(carried, dict) else dict.fromkeys(carried, "text")
    calibration = Calibration.from_mapping(first["calibration"])
    recalibrated = run.get("recalibrated", {}).get("risk_12m")
    recalibration = None if recalibrated is None else Recalibration.from_json(recalibrated)
    tally = Tally()

    def merged() -> table.Metadata:
        result = tally.summary(str(out), calibration, recalibration)
        manifest = {
            **run,
            "fingerprint": {**shareable(run["fingerprint"]), "shard": "1/1"},
            "shard": "1/1",
            "merged_from": len(parts),
            "alarms": [asdict(alarm) for alarm in result.alarms],
            "rows": {"ok": result.ok, "refused": result.refused, "failed": result.failed},
            "started": min(r["started"] for r in runs.values()),
            "finished": max(r["finished"] for r in runs.values()),
        }
        return table.metadata(manifest, first["calibration"], extra)

    with workspace_of(out) as workspace:
        table.write(_rows(parts, run, tally), out, merged, extra, workspace, bom=bom)
    return tally.summary(str(out), calibration, recalibration)


def _refuse_same_file(parts: Sequence[Path]) -> None:
    files = Counter(part.resolve() for part in parts)
    twice = [part.name for part, times in files.items() if times > 1]
    if twice:
        raise UsageError(f"{', '.join(twice)} is named twice: name each part once")


def _refuse_mixture(runs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Every part must come of the same scan, scored by the same stack with the same settings."""
    (first, reference), *others = runs.items()
    wanted = _comparable(reference)
    for part, run in others:
        found = _comparable(run)
        differing = [key for key in sorted({*wanted, *found}) if wanted.get(key) != found.get(key)]
        if differing:
            listed = "; ".join(f"{key}: {wanted.get(key)} and {found.get(key)}" for key in differing)
            raise UsageError(
                f"{first.name} and {part.name} are no shards of one run: they differ in {listed}. "
                "Score the odd one again"
            )
    limited = [part.name for part, run in runs.items() if run["limit"] is not None]
    if limited:
        raise UsageError(
            f"{', '.join(limited)} was scored with --limit and is not complete: score it again without"
        )


def _comparable(run: Mapping[str, Any]) -> dict[str, Any]:
    settings = {
        key: value for key, value in shareable(run["fingerprint"]).items() if key not in _OF_THE_SHARD
    }
    shards = Shard.parse(run["shard"]).count
    return {
        **settings,
        "scan_sha256": run["scan_sha256"],
        "images_in_scan": run["images_in_scan"],
        "shards": shards,
    }


def _refuse_gaps(runs: Mapping[Path, Mapping[str, Any]]) -> None:
    shards = {part: Shard.parse(run["shard"]) for part, run in runs.items()}
    count = next(iter(shards.values())).count
    held = Counter(shard.index for shard in shards.values())
    twice = [str(index) for index, times in sorted(held.items()) if times > 1]
    if twice:
        raise UsageError(f"shard {', '.join(twice)} of {count} is there twice: leave one of them out")
    missing = [str(index) for index in range(1, count + 1) if index not in held]
    if missing:
        raise UsageError(f"shard {', '.join(missing)} of {count} is missing: score it, and name it here")


def _refuse_other_images(parts: Sequence[Path], run: Mapping[str, Any], against: Iterable[Item]) -> None:
    """UsageError where the cohort holds other images now than when the parts' scan was made."""
    digest = PathsDigest()
    paths = [source_path_of(item) for item in against]
    for path in paths:
        digest.add(path)
    if digest.hexdigest() == run["scan_sha256"]:
        return
    scored = {path for part in parts for path in table.read(part)["source_path"]}
    new = [path for path in paths if path not in scored]
    gone = sorted(scored.difference(paths))
    changed = ["in another order"] if not (new or gone) else []
    changed += [f"{len(new)} without a row ({', '.join(new[:3])}{', …' * (len(new) > 3)})"] * bool(new)
    changed += [f"{len(gone)} gone ({', '.join(gone[:3])}{', …' * (len(gone) > 3)})"] * bool(gone)
    raise UsageError(
        f"the images are not those that were scored: {'; '.join(changed)}. "
        "Score every shard of what is there now, or leave --against out"
    )


def _rows(parts: Sequence[Path], run: Mapping[str, Any], tally: Tally) -> Iterator[Row]:
    """All rows by image, proving on the way that each image of the scan has its rows once, and no other."""
    images = run["images_in_scan"]
    listed = PathsDigest()
    current = -1
    sides: set[str | None] = set()
    for row in heapq.merge(*(_rows_of(part) for part in parts), key=_image_index):
        index = _image_index(row)
        if index > current + 1:
            raise UsageError(
                f"image {current + 1} of the scan has no row in these parts: score its shard again"
            )
        if index != current:
            current, sides = index, set()
            listed.add(row["source_path"])
        if row["side"] is not None and row["side"] in sides:
            raise UsageError(
                f"{row['source_path']} has two rows for side {row['side']}: "
                "a part was altered; score it again"
            )
        sides.add(row["side"])
        tally.add(row)
        yield row
    if current != images - 1:
        raise UsageError(f"image {current + 1} of the scan has no row in these parts: score its shard again")
    if listed.hexdigest() != run["scan_sha256"]:
        raise UsageError(
            "the rows' source paths are not those of the scan: a part was altered; score it again"
        )


def _rows_of(part: Path) -> Iterator[Row]:
    """In the order of the scan, as they were written; UsageError where they were shuffled since."""
    before = -1
    for row in table.read(part).iter_rows(named=True):
        if _image_index(row) < before:
            raise UsageError(
                f"{part.name}: its rows are not in the order of the scan: a part was altered; score it again"
            )
        before = _image_index(row)
        yield row


def _image_index(row: Row) -> int:
    return int(row["image_index"])
