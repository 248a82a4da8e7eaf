"""The Osteoarthritis Initiative's release: radiographs by ``contents.csv``, KL grades by the reading tables.

Layout (facts from public code that reads it)::

    <visit>/contents.csv                             Folder, ParticipantID, SeriesDescription, Barcode, …
    <visit>/0.C.2/<ID>/<yyyymmdd>/<barcode8>/001      a DICOM file; visits 00m 12m 24m 36m 48m 72m 96m
    kxr_sq_bu00.txt …                                ID|SIDE|READPRJ|VERSION|V00BARCDBU|…|V00XRKL|…
    AllClinical00.txt, Enrollees.txt, Outcomes99.txt  what else is known of a participant

and NDA's names of the same: oai_kxrsemiquant01, oai_xrmeta01, image03, whose second line explains the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kneerisk.errors import UsageError
from kneerisk.releases.cells import (
    SUFFIXES,
    ReleaseTable,
    is_missing,
)
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.oai import MONTHS, barcode_of, is_readings, month_of_visit, read_readings
from kneerisk.releases.oai_background import OaiBackground, is_background
from kneerisk_train.prepare.release import Release, ReleaseImage
from kneerisk_train.prepare.releases.tree import FILES, check_root, is_image, shallow, walk

_INDEX = ("oai_xrmeta01", "image03")
_MONTH_FOLDER = re.compile(r"(?:^|_)(\d{1,2})m$", re.IGNORECASE)
_RELEASE_FOLDER = re.compile(r"(\d{1,2})\.[A-Z]\.\d")


def open_oai(root: Path, tables: Path | None = None) -> Release:
    """Read a release's tables and list its PA fixed-flexion radiographs.

    Args:
        root: holds the image tree, and the tables unless ``tables`` does.
        tables: a folder with tables that lie elsewhere.

    Raises:
        UsageError: nothing of the release is there, or a table is not as distributed.
    """
    check_root(root)
    survey = _Survey(root)
    for folder in (root, *(() if tables is None else (tables,))):
        check_root(folder)
        survey.look_for_tables(folder)
    if not survey.readings:
        raise UsageError(
            f"{tables or root} holds no kxr_sq_bu00.txt (nor oai_kxrsemiquant01.txt): put the "
            "semi-quantitative tables, as text, into the release's folder, or name their folder with --tables"
        )
    readings, barcodes = read_readings(survey.readings, survey.ledger)
    images = survey.list_images(barcodes)
    if not images:
        raise UsageError(
            f"{root} holds no PA fixed-flexion radiograph: none of its contents.csv (or image03) lists a "
            "'Bilateral PA Fixed Flexion Knee' whose folder is here"
        )
    background = OaiBackground(survey.background, survey.ledger)
    return Release("oai", root, images, readings, background.of, survey.ledger)


class _Survey:
    """One look at a release: its tables, then its radiographs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = Ledger()
        self.readings: list[Path] = []
        self.background: list[Path] = []
        self._index: list[Path] = []
        self._listed: dict[str, tuple[str, str | None]] = {}
        """Folder of a PA radiograph → participant, name of its visit if the listing has one."""
        self._others: set[str] = set()
        """Folders of other examinations."""
        self._exams: dict[str, tuple[str, str, str]] = {}
        """Barcode → examination, participant, visit, by NDA's index."""
        self._has_listing = False

    def look_for_tables(self, folder: Path) -> None:
        """Sort the tables that lie directly in a folder or in one below it that holds no radiographs."""
        known = {p.resolve() for p in (*self.readings, *self.background, *self._index)}
        for path in sorted(p for p in shallow(folder) if p.suffix.casefold() in SUFFIXES):
            stem = path.stem.casefold()
            if path.resolve() in known:
                continue
            if is_readings(stem):
                self.readings.append(path)
            elif stem in _INDEX:
                self._index.append(path)
            elif is_background(stem):
                self.background.append(path)

    def list_images(self, barcodes: set[tuple[str, int, str]]) -> list[ReleaseImage]:
        """The radiographs; of several of a knee and visit, the one that was read goes first."""
        for path in self._index:
            self._read_index(path)
        tables = {p.resolve() for p in (*self.readings, *self.background, *self._index)}
        images = []
        for inside, entry in walk(self.root, self._arrive):
            self.ledger.expect(FILES)
            if Path(entry.path).resolve() in tables or entry.name.casefold() == "contents.csv":
                self.ledger.add(FILES, "a table that is read")
            elif (
                is_image(inside, entry, self.ledger) and (image := self._image(inside, barcodes)) is not None
            ):
                self.ledger.add(FILES, "radiographs to read")
                images.append(image)
        return images

    def _arrive(self, folder: str, files: list[str]) -> Callable[[str], bool]:
        for name in files:
            if name.casefold() == "contents.csv":
                self._read_contents(folder, name)
        return lambda path: path not in self._others

    def _read_contents(self, folder: str, name: str) -> None:
        path = self.root / folder / name
        section = f"rows of {folder + '/' if folder else ''}{name}"
        self._has_listing = True
        for line, row in ReleaseTable(path, ("FOLDER", "SERIESDESCRIPTION", "PARTICIPANTID")):
            self.ledger.expect(section)
            inside = _folder_of(row["FOLDER"], folder, self.root)
            if not _is_pa(row["SERIESDESCRIPTION"]):
                self.ledger.add(section, f"left out: {row['SERIESDESCRIPTION'] or 'no description'}")
                self._others.add(inside)
            elif not (self.root / inside).is_dir():
                self.ledger.add(section, "left out: its folder is not here", f"line {line}: {inside}")
            else:
                self.ledger.add(section, "PA fixed-flexion radiographs")
                self._listed[inside] = (row["PARTICIPANTID"], None)

    def _read_index(self, path: Path) -> None:
        """NDA's index of examinations by barcode; image03 also speaks of MRI, which is left out."""
        section = f"rows of {path.name}"
        is_meta = path.stem.casefold() == "oai_xrmeta01"
        barcode, exam = ("BARCODE", "EXAMTYPE") if is_meta else ("ACCESSION_NUMBER", "IMAGE_DESCRIPTION")
        self._has_listing = True
        for _, row in ReleaseTable(path, ("SRC_SUBJECT_ID", "VISIT", barcode, exam)):
            self.ledger.expect(section)
            code = barcode_of(row[barcode])
            if code is None or is_missing(row[exam]):
                self.ledger.add(section, "left out: no barcode or no examination")
                continue
            known = self._exams.get(code)
            if known is None or not _is_pa(known[0]):
                self._exams[code] = (row[exam], row["SRC_SUBJECT_ID"], row["VISIT"])
            outcome = "PA fixed-flexion radiographs" if _is_pa(row[exam]) else f"left out: {row[exam]}"
            self.ledger.add(section, outcome)

    def _image(self, path: str, barcodes: set[tuple[str, int, str]]) -> ReleaseImage | None:
        """A file as a radiograph to read; ``None``, with the reason counted, where it is none of ours."""
        parts = PurePosixPath(path).parts
        code = next((c for p in reversed(parts) if (c := barcode_of(p.partition(".")[0]))), None)
        listed = self._listed.get("/".join(parts[:-1]))
        exam = self._exams.get(code) if code else None
        if listed is None and exam is not None:
            if not _is_pa(exam[0]):
                self.ledger.add(FILES, f"left out: {exam[0]}", path)
                return None
            listed = (exam[1], exam[2])
        if listed is None and self._has_listing:
            self.ledger.add(FILES, "left out: not listed as a PA fixed-flexion radiograph", path)
            return None
        named = listed[0] if listed else next((p for p in parts if re.fullmatch(r"\d{7}", p)), None)
        month = month_of_visit(listed[1]) if listed and listed[1] else month_of_path(self.root.name, path)
        if not named or month is None:
            self.ledger.add(FILES, "left out: its path tells no participant or visit", path)
            return None
        was_read = code is not None and (named, month, code) in barcodes
        return ReleaseImage(path, named, month, "both", rank=0 if was_read else 1)


def month_of_path(root: str, path: str) -> int | None:
    """Months by the folders' names: ``12m``, ``OAI_12m``, or the release's number in ``1.C.2``."""
    parts = (root, *PurePosixPath(path).parts[:-1])
    for part in reversed(parts):
        if (match := _MONTH_FOLDER.search(part)) is not None and int(match.group(1)) in MONTHS.values():
            return int(match.group(1))
    for part in reversed(parts):
        if (match := _RELEASE_FOLDER.match(part)) is not None:
            return MONTHS.get(match.group(1).zfill(2))
    return None


def _is_pa(description: str) -> bool:
    words = description.casefold()
    return "fixed flexion" in words and "knee" in words


def _folder_of(written: str, beside: str, root: Path) -> str:
    """A folder of contents.csv, relative to the root: written from beside the listing, or from above it."""
    inside = written.replace("\\", "/").strip("/")
    parts = PurePosixPath(beside).parts
    candidates = ["/".join((*parts[: len(parts) - up], inside)) for up in range(len(parts) + 1)]
    return next((c for c in candidates if (root / c).is_dir()), candidates[0])
