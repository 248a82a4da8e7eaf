"""From what the user gave (folders, files, manifests) to one reference a file, in a constant order.

Nothing is decoded here, and only a few blocks of each file are read; what is held over a scan is a few
bytes for each file and each folder.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from kneerisk.errors import KneeriskError, Reason, UsageError
from kneerisk.places.place import DICOMWEB, is_remote, place, scheme_of, url_of
from kneerisk.places.reach import forget, remote_at, warmed
from kneerisk.radiograph import flags
from kneerisk.radiograph.sources import manifest
from kneerisk.radiograph.sources.candidates import (
    likeness_of,
    refuse_if_damaged,
    refuse_if_no_image,
    shown,
    uid_of,
    why_skip,
    why_skip_content,
    why_skip_file,
    why_skip_suffix,
)
from kneerisk.radiograph.sources.ids import Identity, identifier
from kneerisk.radiograph.sources.kinds import together
from kneerisk.radiograph.sources.sniff import HEAD_BYTES
from kneerisk.records import CarriedKind, RadiographRef, Refusal, Side

AnySide = Side | Literal["both"]

_MAX_LISTED = 1000


@dataclass(slots=True)
class Skipped:
    """What a scan tells beside its images: what it passed over inside folders, and what manifests carry."""

    counts: Counter[str] = field(default_factory=Counter)
    """Files and folders by the reason for passing them over, in full."""
    listed: list[tuple[str, str]] = field(default_factory=list)
    """(source path, reason), the first thousand."""
    carried: dict[str, CarriedKind] = field(default_factory=dict)
    """The manifests' own columns, and of what kind each is; filled before the first image."""

    @property
    def total(self) -> int:
        """How many files and folders were passed over."""
        return self.counts.total()

    def add(self, source_path: str, why: str) -> None:
        """Note one more."""
        self.counts[why] += 1
        if len(self.listed) < _MAX_LISTED:
            self.listed.append((source_path, why))


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
        if given.suffix.casefold() in (".xlsx", ".xls", ".ods") and _holds(given.is_file):
            raise UsageError(
                f"{shown(given)} is a spreadsheet: save it as 'CSV UTF-8' (File, Save as) and give that file"
            )
        if _is_manifest(given):
            carried.append(manifest.check_manifest(given))
    skipped = skipped if skipped is not None else Skipped()
    skipped.carried.update(together(carried))
    scanner = _Scanner(inputs, identify, side, skipped, follow_links)
    return scanner.flag_duplicates(scanner.walk())


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


def _is_manifest(given: Path) -> bool:
    return given.suffix.casefold() in manifest.SUFFIXES and _holds(given.is_file)


def _refused_as(why: Refusal, ref: RadiographRef) -> Refusal:
    return replace(why, ref=ref)


class _Scanner:
    """The state of one scan: which folders and files were seen, and where source paths begin."""

    def __init__(
        self,
        inputs: Sequence[Path],
        identify: Callable[[str, str], Identity],
        side: AnySide | None,
        skipped: Skipped,
        follow_links: bool,
    ) -> None:
        self._inputs = inputs
        self._follow_links = follow_links
        self._identify = identify
        self._side = side
        self._skipped = skipped
        self._folders_seen: set[tuple[int, int]] = set()
        self._files_given: set[Path] = set()
        self._remote_roots: list[Path] = []
        images = [i for i in inputs if not _is_manifest(i)]
        tops = [_absolute(_folder_of(i)) for i in images]
        self._roots = [Path(os.path.realpath(i)) for i in images if not is_remote(i)]
        try:
            self._top = Path(os.path.commonpath(tops)) if tops else None
        except ValueError:  # on several Windows drives
            self._top = None

    def walk(self) -> Iterator[RadiographRef | Refusal]:
        for given in self._inputs:
            if _is_manifest(given):
                yield from self._manifest(given)
            elif is_remote(given):
                yield from self._remote(given)
            elif _holds(given.is_dir):
                yield from self._folder(given)
            else:
                yield from self._given_file(given)

    def flag_duplicates(self, items: Iterator[RadiographRef | Refusal]) -> Iterator[RadiographRef | Refusal]:
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

    def _source_path(self, path: Path) -> str:
        absolute = _absolute(path)
        if self._top is not None and absolute.is_relative_to(self._top):
            absolute = absolute.relative_to(self._top)
        return shown(absolute)

    def _given_file(self, path: Path) -> Iterator[RadiographRef | Refusal]:
        absolute = _absolute(path)
        try:
            folder = _folder_key(path.parent)
        except OSError:  # the file's own check says why
            folder = None
        if absolute in self._files_given or folder in self._folders_seen:
            self._skipped.add(self._source_path(path), "given twice")
            return
        self._files_given.add(absolute)
        yield self._identified(path, absolute.parent.name, refuse_if_no_image)

    def _folder(self, root: Path) -> Iterator[RadiographRef | Refusal]:
        """Walk one input folder, depth first, sorted by name; on a stack, so that no depth is too deep."""
        root = _absolute(root)
        stack = [self._entries(root)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif isinstance(entry, Refusal):
                yield entry
            else:
                path = Path(entry.path)
                is_folder = _holds(entry.is_dir)
                why = why_skip(entry.name, is_folder=is_folder)
                if why is None and entry.is_symlink() and self._leads_out(path):
                    if is_folder or (why := why_skip_suffix(entry.name)) is None:
                        yield self._led_out(path)
                        continue
                elif why is None and is_folder:
                    if entry.is_symlink() and self._is_among_inputs(path):
                        self._skipped.add(self._source_path(path), "a link to a folder that is read anyway")
                    else:
                        stack.append(self._entries(path))
                elif why is None:
                    why = why_skip_file(entry)
                    if why is None and _absolute(path) in self._files_given:
                        why = "given twice"
                if why is not None:
                    self._skipped.add(self._source_path(path), why)
                elif not is_folder:
                    below = path.relative_to(root).parts
                    folder = below[0] if len(below) > 1 else root.name
                    yield self._identified(path, folder, refuse_if_damaged)

    def _remote(self, root: Path) -> Iterator[RadiographRef | Refusal]:
        """The object that a URL names, or every one below it, in the store's order."""
        remote = remote_at(root)
        alone = remote.is_file(root)
        try:
            for path in warmed(self._named(root, [root] if alone else remote.files(root)), HEAD_BYTES):
                why = None if alone else why_skip_content(path)
                if why is not None:
                    self._skipped.add(self._source_path(path), why)
                    continue
                below = path.parts[len(root.parts) :]
                folder = below[0] if len(below) > 1 else (root.parent if alone else root).name
                yield self._identified(path, folder, refuse_if_damaged)
        except OSError as error:
            raise KneeriskError(
                f"{url_of(root)} cannot be listed to its end: {error.strerror}; try again, nothing was scored"
            ) from error
        self._remote_roots.append(root)

    def _named(self, root: Path, paths: Iterable[Path]) -> Iterator[Path]:
        """Without those that are passed over by name, or that an earlier input brought."""
        for path in paths:
            *folders, name = path.parts[len(root.parts) :] or (path.name,)
            whys = [why_skip(folder, is_folder=True) for folder in folders]
            why = next(filter(None, whys), None) or why_skip(name, is_folder=False)
            if why is None and any(path.is_relative_to(earlier) for earlier in self._remote_roots):
                why = "given twice"
            if why is None:
                yield path
            else:
                self._skipped.add(self._source_path(path), why)

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str] | Refusal]:
        """Sorted entries of a folder that was not read before; a Refusal where it cannot be listed."""
        try:
            key = _folder_key(folder)
            if key in self._folders_seen:
                self._skipped.add(self._source_path(folder), "a folder that was read already")
                return
            self._folders_seen.add(key)
            with os.scandir(folder) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            ref = RadiographRef(path=folder, source_path=self._source_path(folder))
            yield Refusal(
                ref,
                Reason.FILE_UNREADABLE,
                f"the folder cannot be listed ({error.strerror}); check its permissions",
            )
            return
        yield from names

    def _leads_out(self, link: Path) -> bool:
        return not self._follow_links and _holds(link.exists) and not self._is_among_inputs(link)

    def _led_out(self, link: Path) -> Refusal:
        ref = RadiographRef(path=link, source_path=self._source_path(link), side=self._side)
        return Refusal(
            ref,
            Reason.LINK_LEADS_OUT,
            "the link leads out of the inputs; add --follow-links if what it leads to is yours to score",
        )

    def _is_among_inputs(self, link: Path) -> bool:
        target = Path(os.path.realpath(link))
        return any(target == root or target.is_relative_to(root) for root in self._roots)

    def _identified(
        self, path: Path, folder: str, check: Callable[[RadiographRef], Refusal | None]
    ) -> RadiographRef | Refusal:
        source_path = self._source_path(path)
        ref = RadiographRef(path=path, source_path=source_path, side=self._side)
        try:
            participant, visit, side = self._identify(source_path, shown(folder))
        except ValueError as error:
            return Refusal(ref, Reason.ID_NOT_FOUND, f"{error}; mend --id-from, or name the id in a manifest")
        ref = replace(ref, participant_id=participant, visit=visit, side=side or self._side)
        return check(ref) or ref

    def _manifest(self, path: Path) -> Iterator[RadiographRef | Refusal]:
        home = _absolute(path).parent
        for row in manifest.read_by_film(path):
            for found in self._row_files(home, row.path):
                if isinstance(found, Refusal):
                    yield self._of_row(home, row, found.ref.path, partial(_refused_as, found))
                else:
                    yield self._of_row(home, row, found, refuse_if_no_image)

    def _row_files(self, home: Path, cell: str) -> Iterator[Path | Refusal]:
        """The file that a manifest's row names; of a study in a PACS, every image."""
        file = place(cell)
        if not is_remote(file):
            file = home / file
            if "\\" in cell and os.sep == "/" and not os.path.lexists(file):
                file = home / cell.replace("\\", "/")
            yield _absolute(file)
            return
        if scheme_of(file) not in DICOMWEB or remote_at(file).is_file(file):
            yield file
            return
        try:
            images = list(remote_at(file).files(file))
            why = "the server has no radiograph there; check the UID"
        except OSError as error:
            images, why = [], f"the study cannot be listed ({error.strerror})"
        yield from images
        if not images:
            yield Refusal(RadiographRef(file, url_of(file)), Reason.FILE_UNREADABLE, why)

    def _of_row(
        self,
        home: Path,
        row: manifest.ManifestRow,
        absolute: Path,
        check: Callable[[RadiographRef], Refusal | None],
    ) -> RadiographRef | Refusal:
        inside = absolute.is_relative_to(home)
        outside = url_of(absolute) if is_remote(absolute) else absolute
        ref = RadiographRef(
            path=absolute,
            source_path=shown(absolute.relative_to(home) if inside else outside),
            participant_id=row.participant_id,
            visit=row.visit,
            side=row.side or self._side,
            spacing_mm=row.spacing_mm,
            kl_0m=row.kl_0m,
            extra=row.extra,
        )
        if row.participant_id is None:
            below = absolute.relative_to(home).parts if inside else ()
            try:
                folder = below[0] if len(below) > 1 else absolute.parent.name
                participant, visit, side = self._identify(ref.source_path, shown(folder))
            except ValueError as error:
                message = f"{error}; mend --id-from, or fill in participant_id"
                return Refusal(ref, Reason.ID_NOT_FOUND, message)
            ref = replace(
                ref, participant_id=participant, visit=row.visit or visit, side=row.side or side or self._side
            )
        return check(ref) or ref


def _absolute(path: Path) -> Path:
    """Absolute and free of "..", but with links as the user wrote them, unlike `Path.resolve`."""
    if is_remote(path):
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100


def _folder_of(given: Path) -> Path:
    """The folder that an input is, or lies in."""
    is_folder = not remote_at(given).is_file(given) if is_remote(given) else _holds(given.is_dir)
    return given if is_folder else given.parent


def _holds(ask: Callable[[], bool]) -> bool:
    """Ask of a path; no where it is closed or a link turns in a circle, which its row will say."""
    try:
        return ask()
    except OSError:
        return False


def _folder_key(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
