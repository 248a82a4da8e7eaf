"""The OAI's layout, oddities included: images by visit, contents.csv, pipe-delimited tables.

::

    00m/contents.csv                              every series of the visit, PA knees among others
    00m/0.C.2/9000001/20040301/00001000/001       DICOM without an extension; 12m/1.C.2/..., 24m/3.C.2/...
    kxr_sq_bu00.txt, kXR_SQ_BU01.txt, ...         semi-quantitative readings, one table a visit
    AllClinical00.txt, Enrollees.txt, Outcomes99.txt

or, with NDA's names, oai_kxrsemiquant01.txt for the readings, oai_xrmeta01.txt and image03.txt for
contents.csv.

Oddities: some knees have a second reading, of another reader (READPRJ 37 or 42; 15 is the main project), and
some only that; SIDE is a number in some tables and labelled in others; a grade that is missing is written in
four ways; file names change case; hands, pelves and lateral knees lie beside the PA knees; a few visits stand
in the tables and have no image, a few images stand in no table.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np

from kneerisk.simulate.layouts.layout import Shot
from kneerisk.simulate.participants import KneeHistory, KneeVisit, Participant, Visit
from kneerisk.simulate.text_tables import TextTables

CODES = {0: "00", 12: "01", 24: "03", 36: "05", 48: "06", 72: "08", 96: "10"}
"""Months → the visit's code in names of columns, tables and folders."""

PA = "Bilateral PA Fixed Flexion Knee"
_OTHERS = (("PA Bilateral Hand", 0.15), ("AP Pelvis", 0.1), ("Lateral Knee", 0.1))
"""Other series, and the share of visits that have them."""
_MISSING = ("", ".", ".A: Not Expected", ".: Missing Form/Incomplete Workbook")
_SECOND = {"37": 0.12, "42": 0.06}
_ONLY_SECOND = 0.01
_CONTENTS = ("Folder", "ParticipantID", "StudyDate", "Barcode", "StudyDescription", "SeriesDescription")
_KEYS = ("subjectkey", "src_subject_id", "interview_date", "visit")
_NDA = {
    "oai_kxrsemiquant01.txt": (*_KEYS, "side", "readprj", "version", "barcdbu", "xrkl", "xrjsm", "xrjsl"),
    "oai_xrmeta01.txt": (*_KEYS, "barcode", "examtype"),
    "image03.txt": (*_KEYS, "accession_number", "image_description", "image_file"),
}


class OaiLayout:
    """Images and tables as the OAI distributes them."""

    def __init__(self, directory: Path, months: tuple[int, ...], nda: bool) -> None:
        self._nda = nda
        self._tables = TextTables(directory)
        self._places = {month: place for place, month in enumerate(months)}

    def start(self) -> None:
        """Begin every table."""
        for month, place in self._places.items():
            code = CODES[month]
            if not self._nda:
                self._tables.start(f"{month:02d}m/contents.csv", _CONTENTS)
                grades = (f"V{code}BARCDBU", f"V{code}XRKL", f"V{code}XRJSM", f"V{code}XRJSL")
                self._tables.start(
                    _reading_table(place, code), ("ID", "SIDE", "READPRJ", "VERSION", *grades), "|"
                )
        for name, columns in _NDA.items() if self._nda else ():
            self._tables.start(name, columns, "\t")
            self._tables.add(name, ["The NDA's key of the subject, simulated", *columns[1:]])
        sides = [f"{stem}{side}" for stem in ("V00WOMTS", "P01INJ", "P01KSURG") for side in "RL"]
        self._tables.start("AllClinical00.txt", ("ID", "V00AGE", "P02SEX", "P01BMI", *sides), "|")
        self._tables.start("Enrollees.txt", ("ID", "V00SITE", "P02SEX"), "|")
        outcomes = [f"V99E{side}{stem}" for side in "RL" for stem in ("KDAYS", "KRPCF", "KBLRP")]
        self._tables.start("Outcomes99.txt", ("ID", *outcomes), "|")

    def identity(self, person: Participant) -> str:
        """Seven digits, 9000001 and so on."""
        return str(9_000_000 + person.number)

    def shots(self, person: Participant, visit: Visit) -> list[Shot]:
        """The bilateral radiograph, and the visit's other pictures."""
        rng = np.random.default_rng([person.number, visit.month, 72])
        series = [PA, *(name for name, share in _OTHERS if rng.random() < share)]
        code, day = CODES[visit.month], f"{_day(person, visit.month):%Y%m%d}"
        folder = f"{visit.month:02d}m/{int(code)}.C.2/{self.identity(person)}/{day}"
        return [
            Shot(f"{folder}/{_barcode(person, visit, i)}/001", day, None if name == PA else name)
            for i, name in enumerate(series)
        ]

    def add(self, person: Participant) -> None:
        """Append a participant to every table."""
        self._add_background(person)
        for visit in person.visits:
            if not visit.attended:
                continue
            for shot in self.shots(person, visit):
                self._list(person, visit, shot)
            if visit.has_row:
                for knee in visit.knees:
                    self._add_readings(person, visit, knee)

    def finish(self) -> None:
        """Put the tables into place."""
        self._tables.finish()

    def close(self) -> None:
        """Drop tables that are not finished."""
        self._tables.close()

    def _list(self, person: Participant, visit: Visit, shot: Shot) -> None:
        """A series of contents.csv, or of NDA's two indices; listed even where its image is missing."""
        folder, who = shot.path.rpartition("/")[0], self.identity(person)
        barcode, series = "0166" + folder.rpartition("/")[2], shot.series or PA
        if self._nda:
            keys = self._keys(person, visit)
            self._tables.add("oai_xrmeta01.txt", (*keys, barcode, series))
            self._tables.add("image03.txt", (*keys, barcode, series, shot.path))
        else:
            inside = folder.partition("/")[2]
            self._tables.add(
                f"{visit.month:02d}m/contents.csv", (inside, who, shot.date, barcode, "OAI^SIMULATED", series)
            )

    def _add_readings(self, person: Participant, visit: Visit, knee: KneeVisit) -> None:
        rng = np.random.default_rng([person.number, visit.month, knee.side == "L", 73])
        projects = [name for name, share in _SECOND.items() if rng.random() < share]
        if not (projects and rng.random() < _ONLY_SECOND / sum(_SECOND.values())):
            projects.insert(0, "15")
        for project in projects:
            grade = (
                None if knee.missing or knee.replaced else knee.read if project == "15" else knee.read_again
            )
            code = _MISSING[int(rng.integers(len(_MISSING)))]
            narrowing = (
                "" if grade is None else max(grade - 1, 0),
                "" if grade is None else max(grade - 2, 0),
            )
            cells = (code if grade is None else grade, *narrowing)
            barcode = "0166" + _barcode(person, visit, 0)
            side = "1" if knee.side == "R" else "2"
            if self._nda:
                keys = self._keys(person, visit)
                self._tables.add("oai_kxrsemiquant01.txt", (*keys, side, project, "0.8", barcode, *cells))
                continue
            place = self._places[visit.month]
            if place % 2:
                side += ": Right" if knee.side == "R" else ": Left"
            row = (self.identity(person), side, project, "0.8", barcode, *cells)
            self._tables.add(_reading_table(place, CODES[visit.month]), row)

    def _add_background(self, person: Participant) -> None:
        who, sex = self.identity(person), "2: Female" if person.female else "1: Male"
        first, histories = person.visits[0].knees, person.knees
        self._tables.add("Enrollees.txt", (who, person.site, sex))
        self._tables.add(
            "AllClinical00.txt",
            (
                who,
                f"{person.age:.0f}",
                sex,
                f"{person.bmi:.1f}",
                *(f"{knee.womac:.1f}" for knee in first),
                *("1: Yes" if history.injury else "0: No" for history in histories),
                *("1: Yes" if history.surgery else "0: No" for history in histories),
            ),
        )
        self._tables.add(
            "Outcomes99.txt", (who, *(c for history in histories for c in _replacement(history)))
        )

    def _keys(self, person: Participant, visit: Visit) -> tuple[str, ...]:
        who = self.identity(person)
        return (f"NDAR_SIM{who}", who, f"{_day(person, visit.month):%m/%d/%Y}", f"V{CODES[visit.month]}")


def _reading_table(place: int, code: str) -> str:
    """The table's name; its case varies from visit to visit."""
    return f"kXR_SQ_BU{code}.txt" if place % 2 else f"kxr_sq_bu{code}.txt"


def _day(person: Participant, month: int) -> date:
    return date(2004, 3, 1) + timedelta(days=person.number % 700 + round(month * 30.44))


def _barcode(person: Participant, visit: Visit, place: int) -> str:
    """The eight digits that name a folder."""
    return f"{person.number:05d}{CODES[visit.month]}{place}"


def _replacement(history: KneeHistory) -> tuple[str, str, str]:
    """Days until a replacement, whether it was confirmed (3), and whether it was there at baseline."""
    if history.replaced_month is None:
        return (".", ".", "0: No")
    return (str(round(history.replaced_month * 30.44)), "3: Replacement adjudicated, confirmed", "0: No")
