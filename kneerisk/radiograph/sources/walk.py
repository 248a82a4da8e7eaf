"""The walk through what the user gave: folders, files, manifests and URLs, each image identified once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from kneerisk.errors import KneeriskError, Reason
from kneerisk.places.place import DICOMWEB, is_remote, place, scheme_of, url_of
from kneerisk.places.reach import remote_at, warmed
from kneerisk.radiograph.sources import manifest
from kneerisk.radiograph.sources.candidates import (
    refuse_if_damaged,
    refuse_if_no_image,
    shown,
    why_skip,
    why_skip_content,
    why_skip_file,
    why_skip_suffix,
)
from kneerisk.radiograph.sources.ids import Identity
from kneerisk.radiograph.sources.paths import absolute_of, folder_key, folder_of, holds, is_manifest
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.radiograph.sources.sniff import HEAD_BYTES
from kneerisk.records import RadiographRef, Refusal, Side

AnySide = Side | Literal["both"]


class Walk:
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
        images = [i for i in inputs if not is_manifest(i)]
        tops = [absolute_of(folder_of(i)) for i in images]
        self._roots = [Path(os.path.realpath(i)) for i in images if not is_remote(i)]
        try:
            self._top = Path(os.path.commonpath(tops)) if tops else None
        except ValueError:  # on several Windows drives
            self._top = None

    def found(self) -> Iterator[RadiographRef | Refusal]:
        """Every image of every input, in order, or the refusal that stands for it."""
        for given in self._inputs:
            if is_manifest(given):
                yield from self._manifest(given)
            elif is_remote(given):
                yield from self._remote(given)
            elif holds(given.is_dir):
                yield from self._folder(given)
            else:
                yield from self._given_file(given)

    def _source_path(self, path: Path) -> str:
        absolute = absolute_of(path)
        if self._top is not None and absolute.is_relative_to(self._top):
            absolute = absolute.relative_to(self._top)
        return shown(absolute)

    def _given_file(self, path: Path) -> Iterator[RadiographRef | Refusal]:
        absolute = absolute_of(path)
        try:
            folder = folder_key(path.parent)
        except OSError:  # the file's own check says why
            folder = None
        if absolute in self._files_given or folder in self._folders_seen:
            self._skipped.add(self._source_path(path), "given twice")
            return
        self._files_given.add(absolute)
        yield self._identified(path, absolute.parent.name, refuse_if_no_image)

    def _folder(self, root: Path) -> Iterator[RadiographRef | Refusal]:
        """Walk one input folder, depth first, sorted by name; on a stack, so that no depth is too deep."""
        root = absolute_of(root)
        stack = [self._entries(root)]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif isinstance(entry, Refusal):
                yield entry
            else:
                path = Path(entry.path)
                is_folder = holds(entry.is_dir)
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
                    if why is None and absolute_of(path) in self._files_given:
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
            named = self._named(root, [root] if alone else remote.files(root))
            for path in warmed(named, lambda path: path, HEAD_BYTES):
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
            key = folder_key(folder)
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
        return not self._follow_links and holds(link.exists) and not self._is_among_inputs(link)

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
        home = absolute_of(path).parent
        files = (
            (row, found) for row in manifest.read_by_film(path) for found in self._row_files(home, row.path)
        )
        for row, found in warmed(files, lambda pair: _path_of(pair[1]), HEAD_BYTES):
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
            yield absolute_of(file)
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


def _refused_as(why: Refusal, ref: RadiographRef) -> Refusal:
    return replace(why, ref=ref)


def _path_of(found: Path | Refusal) -> Path:
    return found.ref.path if isinstance(found, Refusal) else found
