"""From what the user gave (folders, files, manifests) to one reference a file, in a constant order.

Nothing is decoded here, and only a few blocks of each file are read; what is held over a scan is a few
bytes for each file and each folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.places.place import is_remote, url_of
from kneerisk.places.reach import forget, remote_at
from kneerisk.radiograph import flags
from kneerisk.radiograph.sources import manifest
from kneerisk.radiograph.sources.candidates import likeness_of, shown, uid_of
from kneerisk.radiograph.sources.ids import identifier
from kneerisk.radiograph.sources.kinds import together
from kneerisk.radiograph.sources.paths import holds, is_manifest
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.radiograph.sources.walk import AnySide, Walk
from kneerisk.records import CarriedKind, RadiographRef, Refusal


def scan(
    inputs: Sequence[Path],
    *,
    id_from: str = "tag",
    side: AnySide | None = None,
    skipped: Skipped | None = None,
    may_be_empty: bool = False,
    follow_links: bool = False,
) -> Iterator[RadiographRef | Refusal]:
    """Find every file that may hold a radiograph; a `Refusal` stands where one should be and is not.

    Inputs are taken in the order given. A folder is walked to any depth, sorted by name, each folder once
    (links that lead back are passed over). A link that leads out of all inputs is refused with a row of its
    own, and what lies behind it is not opened; one that leads nowhere, in a circle or to a closed place is a
    row, too. A file that ends in .csv, .tsv, .parquet or .pq is a manifest,
    taken in its own order, but for rows of one file, which come together; any other file must be an image.
    Inside folders, what is clearly no image (hidden files, tables, texts, DICOMDIR) goes to ``skipped``; a
    file given by name or by a manifest is never passed over.

    Args:
        inputs: folders, files and manifests.
        id_from: where participants' ids come from unless a manifest names them. ``"tag"``: PatientID, by
            `read`. ``"folder"``: the first folder below the input, or the input itself for files that lie
            directly in it. ``"regex:…"``: a pattern searched in the source path, with a group named
            ``participant_id`` (or one plain group, or the whole match) and perhaps ``visit`` and ``side``.
        side: the user's ``--side``, for rows whose manifest (or pattern) names none.
        skipped: filled as the scan goes.
        may_be_empty: whether a URL below which nothing lies is taken as a folder's would be.
        follow_links: follow links in folders out of the inputs, too. What the user named, as an input or in
            a manifest, is followed in any case.

    Yields:
        References in a stable order. A second file with the SOPInstanceUID of an earlier one, and an
        overlapping side, carries the flag ``duplicate-uid``, one with the same bytes ``duplicate-file``: by
        the whole scan, so that shards and resumed runs agree.

    Raises:
        UsageError: at once, before anything is yielded: no inputs, an input that does not exist, a bad
            pattern, a manifest with bad rows.
    """
    if not inputs:
        raise UsageError("no input was given; name a folder, a file or a manifest (.csv, .tsv, .parquet)")
    identify = identifier(id_from)
    forget()
    carried: list[dict[str, CarriedKind]] = []
    for given in inputs:
        if is_remote(given):
            _check_remote(given, may_be_empty)
            continue
        try:
            given.lstat()
        except (FileNotFoundError, NotADirectoryError):
            raise UsageError(
                f"{shown(given)} does not exist; check the spelling, and that its disk is there"
            ) from None
        except OSError as error:
            raise UsageError(
                f"{shown(given)} cannot be looked at ({error.strerror}); check its permissions"
            ) from error
        if given.suffix.casefold() in (".xlsx", ".xls", ".ods") and holds(given.is_file):
            raise UsageError(
                f"{shown(given)} is a spreadsheet: save it as 'CSV UTF-8' (File, Save as) and give that file"
            )
        if is_manifest(given):
            carried.append(manifest.check_manifest(given))
    skipped = skipped if skipped is not None else Skipped()
    skipped.carried.update(together(carried))
    return _flag_duplicates(Walk(inputs, identify, side, skipped, follow_links).found())


def _check_remote(given: Path, may_be_empty: bool) -> None:
    """UsageError where a URL cannot be listed, or nothing lies there."""
    if given.suffix.casefold() in manifest.SUFFIXES:
        raise UsageError(
            f"{url_of(given)} is a table: copy it to this machine, and give the copy as a manifest"
        )
    try:
        remote = remote_at(given)
        found = remote.is_file(given) or next(remote.files(given), None) is not None
    except OSError as error:
        raise UsageError(f"{url_of(given)} cannot be read: {error.strerror}") from error
    if not found and not may_be_empty:
        raise UsageError(f"nothing lies at {url_of(given)}; check the spelling")


def _flag_duplicates(items: Iterator[RadiographRef | Refusal]) -> Iterator[RadiographRef | Refusal]:
    """Mark files whose UID or bytes were seen with an overlapping side (None and "both" overlap any)."""
    seen: dict[bytes, int] = {}
    for item in items:
        if isinstance(item, RadiographRef):
            sides = {"L": 1, "R": 2}.get(item.side or "both", 3)
            uid = uid_of(item.path)
            marks = {
                flags.DUPLICATE_UID: None if uid is None else uid.encode(),
                flags.DUPLICATE_FILE: likeness_of(item.path),
            }
            for flag, mark in marks.items():
                if mark is None:
                    continue
                key = hashlib.blake2b(mark, digest_size=12, person=flag.encode()).digest()
                if seen.get(key, 0) & sides:
                    item = replace(item, qc_flags=(*item.qc_flags, flag))
                seen[key] = seen.get(key, 0) | sides
        yield item
