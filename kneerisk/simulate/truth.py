"""The truth of a simulated cohort: ``truth.parquet``, a row a participant, visit and side.

Missed visits have their rows too.  What is hidden from a study starts with ``simulated_``; the file's
metadata says that all of it is simulated.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kneerisk.frames import scan_parquet
from kneerisk.records import LANDMARKS

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, object]
MEANINGS = {
    "participant_id": "as the layout's tables have it",
    "visit_month": "months since baseline",
    "side": "R or L",
    "image_path": "below the cohort's folder; null where the release has no radiograph of the visit",
    "simulated_attended": "false where the participant was lost or missed the visit",
    "simulated_severity": "hidden severity in [0, 5); its whole part is the true grade",
    "simulated_grade": "true KL grade",
    "simulated_grade_12m": "true KL grade twelve months later",
    "simulated_risk_12m": "P(true grade higher twelve months later) given all that is hidden; 0 at KL 4",
    "simulated_risk_12m_seen": "the same of a knee of average liability: what its severity alone tells",
    "simulated_liability": "hidden factor that speeds the knee's progression, standard normal over knees",
    "simulated_replaced": "the knee has been replaced by this visit",
    "kl_read": "the main reader's grade, whether or not the tables have it",
    "kl_read_12m": "the same reader's grade twelve months later",
    "kl_read_again": "a second reader's grade",
    "kl_missing": "the tables lack this grade",
    "age": "years at the visit",
    "sex": "F or M",
    "bmi": "kg/m2 at baseline",
    "womac": "WOMAC total of the knee, 0 to 96",
    "injury": "before baseline",
    "surgery": "before baseline",
    "site": "clinic, A to E",
    "spacing_mm": "mm per pixel, whether or not the header tells",
    "centre_x": "mean of the landmarks, source pixels",
    "centre_y": "mean of the landmarks, source pixels",
    "lm_T0_x … lm_F6_y": "KNEEL's 16 landmarks in source pixels, true to the drawn bones; null without image",
}
"""Column → what it holds."""

_ROWS_A_PART = 4000
_NOTE = "SIMULATED: every participant, knee, grade and risk here is drawn from a model (kneerisk.simulate)"


class TruthTable:
    """Rows that stream into ``truth.parquet``; a hidden folder of parts until :meth:`finish`."""

    def __init__(self, directory: Path, notes: dict[str, str]) -> None:
        self._place = directory / "truth.parquet"
        self._aside = directory / ".truth.part"
        self._aside.mkdir()
        self._notes = notes
        self._rows: list[Row] = []
        self._parts: list[Path] = []

    def add(self, row: Row) -> None:
        """Append a row; landmarks and centre may be left out."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_A_PART:
            self._flush()

    def finish(self) -> Path:
        """Join the parts, put the table into place, and give its path."""
        if self._rows or not self._parts:
            self._flush()
        whole = self._aside / "truth.parquet"
        meanings = {f"kneerisk.column.{name}": meaning for name, meaning in MEANINGS.items()}
        metadata = {"kneerisk.simulated": _NOTE, **self._notes, **meanings}
        scan_parquet(self._parts).sink_parquet(whole, metadata=metadata)
        handle = os.open(whole, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        whole.replace(self._place)
        return self._place

    def close(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def _flush(self) -> None:
        import polars as pl

        types = _schema()
        rows = [{name: row.get(name) for name in types} for row in self._rows]
        self._parts.append(self._aside / f"{len(self._parts):06d}.parquet")
        pl.DataFrame(rows, schema=types, orient="row").write_parquet(self._parts[-1])
        self._rows.clear()


def _schema() -> dict[str, type[pl.DataType]]:
    import polars as pl

    texts = {"participant_id", "side", "image_path", "sex", "site"}
    truths = {"simulated_attended", "simulated_replaced", "kl_missing", "injury", "surgery"}
    whole = {
        "visit_month",
        "simulated_grade",
        "simulated_grade_12m",
        "kl_read",
        "kl_read_12m",
        "kl_read_again",
    }
    landmarks = [f"lm_{name}_{axis}" for name in LANDMARKS for axis in "xy"]
    names = [*list(MEANINGS)[:-1], *landmarks]
    return {
        name: pl.String
        if name in texts
        else pl.Boolean
        if name in truths
        else pl.Int32
        if name in whole
        else pl.Float64
        for name in names
    }
