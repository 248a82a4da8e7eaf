"""A score table, read for a study: only the columns that are asked for, in the interface's terms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk.errors import UsageError
from kneerisk.frames import parquet_schema, read_csv, read_parquet
from kneerisk.scoring.outputs import cells, table

if TYPE_CHECKING:
    import polars as pl

KEYS = ("participant_id", "visit", "side")
POSTERIOR = tuple(f"kl_now_p{grade}" for grade in range(5))
NEEDED = (*KEYS, "status", "kl_now", "kl_0m", *POSTERIOR, "risk_12m")
"""Columns without which no study can be made of a table."""

_REAL = re.compile(r"risk_(?!.*_basis$)|kl_(now|12m)_p\d$|lm_|jsw_|px_spacing_mm$|novelty$")
_INTEGER = frozenset({"kl_now", "kl_12m", "kl_0m", "image_index", "seed", "steps", "samples"})
_BOOLEAN = frozenset({"at_ceiling", "upscale"})
_TEXT = frozenset(
    {
        *KEYS, "source_path", "sop_instance_uid", "input_sha256", "status", "reason", "message", "qc_flags",
        "spacing_source", "stack", "stack_sha256", "backend", "precision", "engine_key", "kneerisk_version",
        "risk_12m_basis",
    }
)  # fmt: skip
_OLD = "risk_12m_calibrated"
_LIST_SEPARATOR = ";"


@dataclass(frozen=True)
class Scores:
    """A score table in memory."""

    path: Path
    frame: pl.DataFrame
    """In the table's order, refused rows included; ``qc_flags`` is a list; carried numbers are numbers."""
    documents: dict[str, Any]
    """``data_dictionary``, ``run`` and ``calibration`` as the table carries them; empty where it has none."""
    notes: tuple[str, ...] = field(default=())
    """What a reader of the results must know of how the table was read."""

    @property
    def stack(self) -> str | None:
        """Name and version of the stack that scored it: ``compact-0.3.0``; ``None`` where no row says."""
        if "stack" not in self.frame.columns:
            return None
        names = self.frame["stack"].drop_nulls().unique().to_list()
        return str(names[0]) if len(names) == 1 else None

    @property
    def population(self) -> str | None:
        """Whom the scoring stack's risks are calibrated to, in words."""
        found = self.documents.get("calibration", {}).get("population")
        return None if found is None else str(found)

    def population_of(self, column: str) -> str | None:
        """Whose rates a column of risks has: its recalibration's, its equation's, or else the stack's."""
        run = self.documents.get("run", {})
        if column in run.get("recalibrated", {}):
            return str(run["recalibrated"][column]["population"])
        derived = run.get("derived", {})
        return str(derived["population"]) if column in derived.get("columns", ()) else self.population


def read_scores(path: Path, *, landmarks: bool = False) -> Scores:
    """Read a table of ``kneerisk score``, ``merge`` or ``derive``.

    Args:
        path: .parquet or .csv.
        landmarks: whether the columns of the landmarks (``lm_…``) are read too; a million rows of them take
            half a gigabyte.

    Raises:
        UsageError: the file cannot be read, is no score table, or scored no knee.
    """
    import polars as pl

    try:
        if table.format_of(path) == "parquet":
            names = parquet_schema(path).names()
            frame = read_parquet(path, _wanted(names, landmarks))
        else:
            names = read_csv(path, n_rows=0).columns
            text = read_csv(path, infer_schema=False, columns=_wanted(names, landmarks))
            frame = typed(cells.restored(text))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    notes: list[str] = []
    if _OLD in frame.columns:
        frame = _in_new_terms(frame)
        notes.append(
            f"{path.name} was scored by an earlier kneerisk: its risk_12m_given_grade (or, without "
            "a reader's grade, risk_12m_calibrated) is taken as risk_12m"
        )
    if missing := [name for name in NEEDED if name not in frame.columns]:
        raise UsageError(
            f"{path} is no table that kneerisk score wrote: it lacks {', '.join(missing[:5])}. "
            "Score the cohort again with this version, or name the right file"
        )
    frame = frame.with_columns(pl.col(name).cast(pl.String) for name in KEYS)
    if not (frame["status"] == "ok").any():
        raise UsageError(f"{path} has no scored knee: every row is refused or failed; see its column message")
    return Scores(path, frame, _documents(path), tuple(notes))


def scored(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of scored knees."""
    import polars as pl

    return frame.filter(pl.col("status") == "ok")


def typed(text: pl.DataFrame) -> pl.DataFrame:
    """A CSV's cells, read as text → the table's types; a carried column of numbers becomes numbers.

    Ids stay text, whatever they look like. A carried column is taken for numbers only where each of its cells
    is one and none has a leading zero ("007" is a name).
    """
    import polars as pl

    casts = []
    for name in text.columns:
        column = pl.col(name)
        if name == "qc_flags":
            parts = column.fill_null("").str.split(_LIST_SEPARATOR)
            casts.append(parts.list.eval(pl.element().filter(pl.element() != "")))
        elif name in _BOOLEAN:
            casts.append(column == "true")
        elif name in _INTEGER:
            casts.append(column.cast(pl.Int64))
        elif _REAL.match(name):
            casts.append(column.cast(pl.Float64))
        elif name in _TEXT or name.endswith("_basis") or not _is_numeric(text[name]):
            casts.append(column)
        else:
            casts.append(column.cast(pl.Float64))
    return text.select(casts)


def _is_numeric(cells: pl.Series) -> bool:
    import polars as pl

    given = cells.drop_nulls()
    if given.is_empty() or given.str.contains(r"^[+-]?0\d").any():
        return False
    return given.cast(pl.Float64, strict=False).null_count() == 0


def _wanted(names: Sequence[str], landmarks: bool) -> list[str]:
    return [name for name in names if landmarks or not name.startswith("lm_")]


def _in_new_terms(frame: pl.DataFrame) -> pl.DataFrame:
    """An earlier contract's four risks → the headline with its basis, the image's, the paper's sum."""
    import polars as pl

    given = pl.col("risk_12m_given_grade")
    return frame.with_columns(
        risk_12m=pl.coalesce(given, _OLD),
        risk_12m_basis=pl.when(given.is_not_null())
        .then(pl.lit("grade"))
        .when(pl.col(_OLD).is_not_null())
        .then(pl.lit("image")),
        risk_12m_image=pl.col(_OLD),
        risk_12m_sum=pl.col("risk_12m"),
        risk_12m_lo=pl.lit(None, pl.Float64),
        risk_12m_hi=pl.lit(None, pl.Float64),
    ).drop(_OLD, "risk_12m_given_grade")


def _documents(path: Path) -> dict[str, Any]:
    try:
        return table.read_metadata(path)
    except UsageError:
        return {}
