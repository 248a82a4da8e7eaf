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
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.tables import Row
from kneerisk_train.prepare.ledger import Ledger
from kneerisk_train.prepare.release import KneeKey, Reading, Release, ReleaseImage
from kneerisk_train.prepare.releases.cells import (
    SUFFIXES,
    ReleaseTable,
    code_of,
    grade_of,
    is_missing,
    number_of,
    side_of,
)
from kneerisk_train.prepare.releases.oai_background import OaiBackground, is_background
from kneerisk_train.prepare.releases.readings import ReadingRow, choose
from kneerisk_train.prepare.releases.tree import FILES, check_root, is_image, shallow, walk

MONTHS = {"00": 0, "01": 12, "03": 24, "05": 36, "06": 48, "08": 72, "10": 96}
"""Visit code of a column's prefix (V01…) or of a release's (1.C.2) → months."""

_READINGS = re.compile(r"kxr_sq_bu(\d\d)|oai_kxrsemiquant01")
_INDEX = ("oai_xrmeta01", "image03")
_MONTH_FOLDER = re.compile(r"(?:^|_)(\d{1,2})m$", re.IGNORECASE)
_RELEASE_FOLDER = re.compile(r"(\d{1,2})\.[A-Z]\.\d")
_BARCODE = re.compile(r"(?:0166)?(\d{8})$")
_READ_COLUMN = re.compile(r"V(\d\d)XRKL$")


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
    readings, barcodes = _read_readings(survey)
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
            if _READINGS.fullmatch(stem):
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


def _read_readings(survey: _Survey) -> tuple[dict[KneeKey, Reading], set[tuple[str, int, str]]]:
    """The chosen reading of every knee and visit, and (participant, month, barcode) of what was read."""
    rows: defaultdict[KneeKey, list[ReadingRow]] = defaultdict(list)
    for path in survey.readings:
        _collect(path, rows, survey.ledger)
    barcodes = {
        (key.participant_id, key.visit_month, row.barcode)
        for key, readings in rows.items()
        for row in readings
        if row.barcode is not None
    }
    return {key: choose(key, readings, survey.ledger) for key, readings in rows.items()}, barcodes


def _collect(path: Path, rows: defaultdict[KneeKey, list[ReadingRow]], ledger: Ledger) -> None:
    table = ReleaseTable(path)
    by_visit = _grade_columns(table)
    participant = next((c for c in ("ID", "SRC_SUBJECT_ID", "SUBJECTKEY") if c in table.columns), "ID")
    table = ReleaseTable(path, (participant, "SIDE", "READPRJ"))
    section = f"rows of {path.name}"
    for line, row in table:
        ledger.expect(section)
        side = side_of(row["SIDE"])
        month = by_visit[0][1] if len(by_visit) == 1 else None
        if month is None and "VISIT" in table.columns:
            month = month_of_visit(row["VISIT"])
        if side is None or month is None or is_missing(row[participant]):
            ledger.add(section, "left out: no participant, side or visit that is known", f"line {line}")
            continue
        column, prefix = next(((c, p) for c, m, p in by_visit if m in (month, None)), by_visit[0][::2])
        cell = row[column]
        grade = grade_of(cell)
        rows[KneeKey(row[participant], month, side)].append(
            ReadingRow(
                section=section,
                line=line,
                project=code_of(row["READPRJ"]),
                version=number_of(row.get("VERSION", "")) or 0.0,
                grade=grade,
                code=None if grade is not None else cell or "empty",
                barcode=_row_barcode(row, prefix),
            )
        )


def _grade_columns(table: ReleaseTable) -> list[tuple[str, int | None, str]]:
    """Columns with grades: name, month (``None`` where a column VISIT tells), prefix."""
    found: list[tuple[str, int | None, str]] = []
    for name in table.columns:
        if name == "XRKL":
            found.append((name, None, ""))
        elif (match := _READ_COLUMN.match(name)) is not None:
            if match.group(1) not in MONTHS:
                known = ", ".join(f"V{code}" for code in MONTHS)
                raise UsageError(f"{table.path}: column {name} is of no visit that is known ({known})")
            found.append((name, MONTHS[match.group(1)], f"V{match.group(1)}"))
    if not found or (found[0][1] is None and "VISIT" not in table.columns):
        raise UsageError(
            f"{table.path}: no column holds KL grades (V00XRKL, or XRKL beside VISIT); is this the table as "
            "distributed?"
        )
    if len(found) > 1:
        raise UsageError(
            f"{table.path}: several columns hold KL grades ({', '.join(f[0] for f in found)}), and OAI's "
            "tables have one visit each; is this the table as distributed?"
        )
    return found


def _row_barcode(row: Row, prefix: str) -> str | None:
    return barcode_of(row.get(f"{prefix}BARCDBU", row.get("BARCODE", row.get("BARCDBU", ""))))


def barcode_of(text: str) -> str | None:
    """The 8 digits of a barcode that is written with ``0166`` before them, or without."""
    match = _BARCODE.match(text.strip())
    return match.group(1) if match else None


def month_of_visit(text: str) -> int | None:
    """``V01``, ``01``, ``12m``, ``12 month`` or ``Baseline`` → months; ``None`` for anything else."""
    word = text.strip().casefold()
    if word == "baseline":
        return 0
    if (match := re.match(r"(\d{1,2}) ?m", word)) is not None:
        return int(match.group(1)) if int(match.group(1)) in MONTHS.values() else None
    return MONTHS.get(word.removeprefix("v").zfill(2))


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
