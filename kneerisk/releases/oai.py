"""OAI's semi-quantitative readings: ``kxr_sq_bu00.txt`` …, or NDA's ``oai_kxrsemiquant01``.

Layout (facts from public code that reads it): ``ID|SIDE|READPRJ|VERSION|V00BARCDBU|…|V00XRKL|…``, a table a
visit; NDA's second line explains the first.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.tables import Row
from kneerisk.releases.cells import ReleaseTable, code_of, grade_of, is_missing, number_of, side_of
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.readings import ReadingRow, choose
from kneerisk.releases.records import KneeKey, Reading

MONTHS = {"00": 0, "01": 12, "03": 24, "05": 36, "06": 48, "08": 72, "10": 96}
"""Visit code of a column's prefix (V01…) or of a release's (1.C.2) → months."""

_READINGS = re.compile(r"kxr_sq_bu(\d\d)|oai_kxrsemiquant01")
_BARCODE = re.compile(r"(?:0166)?(\d{8})$")
_READ_COLUMN = re.compile(r"V(\d\d)XRKL$")


def is_readings(stem: str) -> bool:
    """Whether a table's name, in small letters and without its ending, is one of readings."""
    return _READINGS.fullmatch(stem) is not None


def read_readings(
    paths: Iterable[Path], ledger: Ledger
) -> tuple[dict[KneeKey, Reading], set[tuple[str, int, str]]]:
    """The chosen reading of every knee and visit, and (participant, month, barcode) of what was read."""
    rows: defaultdict[KneeKey, list[ReadingRow]] = defaultdict(list)
    for path in paths:
        _collect(path, rows, ledger)
    barcodes = {
        (key.participant_id, key.visit_month, row.barcode)
        for key, readings in rows.items()
        for row in readings
        if row.barcode is not None
    }
    return {key: choose(key, readings, ledger) for key, readings in rows.items()}, barcodes


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
