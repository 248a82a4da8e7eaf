"""The Multicenter Osteoarthritis Study's release: bilateral PA radiographs, grades in one wide table.

Layout (facts from public code that reads it)::

    …/<ID>…/V0/…/PA10/<file>        ID such as MB00001; views PA05, PA10, PA15 by the beam's angle, and LAT…
    MOSTV01235XRAY.txt              tab-delimited: MOSTID, V{0,1,2,3,5}X{L,R}KL; 8, 9, P, S, X, Z: no grade
    MOSTV0ENROLL.txt …              AGE, SEX, SITE, V0BMI, V0WOTOTR, V0LAR (injury), V0SURGR
    MOSTOUTCOMES.txt                V99ERKRINDEX: the visit by which the knee was replaced

Visits V0, V1, V2, V3, V5 lie at 0, 15, 30, 60, 84 months.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from kneerisk.errors import UsageError
from kneerisk.releases.cells import SUFFIXES
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.most import MONTHS, MostBackground, is_readings, read_grades
from kneerisk.releases.records import KneeKey, Reading
from kneerisk_train.prepare.release import Release, ReleaseImage
from kneerisk_train.prepare.releases.tree import FILES, check_root, is_image, shallow, walk

_ID = re.compile(r"(M[A-Z]\d{5})(?!\d)")
_VISIT = re.compile(r"V(\d)(?!\d)", re.IGNORECASE)
_MONTH = re.compile(r"(\d{1,2})m$", re.IGNORECASE)
_VIEW = re.compile(r"(PA|AP|LAT|LL|FL|SKY|PELV)\w*", re.IGNORECASE)
_ANGLE = re.compile(r"PA(\d\d)", re.IGNORECASE)
_READ_ANGLE = 10
"""Degrees of the beam in the radiographs that public code takes."""


def open_most(root: Path, tables: Path | None = None) -> Release:
    """Read a release's tables and list its PA radiographs.

    Args:
        root: holds the image tree, and the tables unless ``tables`` does.
        tables: a folder with tables that lie elsewhere.

    Raises:
        UsageError: nothing of the release is there, or a table is not as distributed.
    """
    check_root(root)
    ledger = Ledger()
    found = [
        p for f in (root, tables) if f is not None for p in shallow(f) if p.suffix.casefold() in SUFFIXES
    ]
    by_name = {path.stem.casefold(): path for path in found}
    grades = [path for stem, path in sorted(by_name.items()) if is_readings(stem)]
    if not grades:
        raise UsageError(
            f"{tables or root} holds no MOSTV01235XRAY.txt: put MOST's tables, as text, into the release's "
            "folder, or name their folder with --tables"
        )
    readings: dict[KneeKey, Reading] = {}
    for path in grades:
        read_grades(path, readings, ledger)
    known = MostBackground(by_name, ledger)
    used = {path.resolve() for path in (*grades, *known.tables)}
    images = _list_images(root, used, ledger)
    if not images:
        raise UsageError(
            f"{root} holds no PA radiograph: no file lies below a participant's folder (MB00001), a visit's "
            "(V0) and a view's (PA10)"
        )
    return Release("most", root, images, readings, known.of, ledger)


def _list_images(root: Path, tables: set[Path], ledger: Ledger) -> list[ReleaseImage]:
    """PA radiographs; of several beam angles of a visit, the one nearest to ten degrees."""
    found: list[ReleaseImage] = []
    for path, entry in walk(root, lambda folder, files: lambda path: True):
        ledger.expect(FILES)
        if Path(entry.path).resolve() in tables:
            ledger.add(FILES, "a table that is read")
        elif is_image(path, entry, ledger) and (image := _image(path, ledger)) is not None:
            found.append(image)
    best: dict[tuple[str, int], int] = {}
    for image in found:
        visit = image.participant_id, image.visit_month
        best[visit] = min(best.get(visit, image.rank), image.rank)
    kept = []
    for image in found:
        if image.rank == best[image.participant_id, image.visit_month]:
            ledger.add(FILES, "radiographs to read")
            kept.append(replace(image, rank=0))
        else:
            ledger.add(FILES, "left out: another beam angle of the same visit", image.path)
    return kept


def _image(path: str, ledger: Ledger) -> ReleaseImage | None:
    parts = PurePosixPath(path).parts
    named = next((m.group(1) for part in parts if (m := _ID.match(part)) is not None), None)
    month = next((at for part in parts[:-1] if (at := _month(part)) is not None), None)
    view = next((part for part in reversed(parts[:-1]) if _VIEW.fullmatch(part)), "PA")
    if named is None or month is None:
        ledger.add(FILES, "left out: its path tells no participant or visit", path)
        return None
    if not view.upper().startswith("PA"):
        ledger.add(FILES, f"left out: another view ({view})", path)
        return None
    angle = _ANGLE.match(view)
    rank = abs(int(angle.group(1)) - _READ_ANGLE) if angle else 0
    return ReleaseImage(path, named, month, "both", rank=rank)


def _month(part: str) -> int | None:
    if (match := _VISIT.fullmatch(part)) is not None:
        return MONTHS.get(match.group(1))
    named = _MONTH.search(part)
    return int(named.group(1)) if named is not None and int(named.group(1)) in MONTHS.values() else None
