"""A table of readers' grades, long or wide, in one form; what is not understood is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kneerisk.errors import UsageError
from kneerisk.frames import read_csv, read_parquet
from kneerisk.scoring.outputs.cells import restored
from kneerisk.study.readings.release_labels import frames, is_release, read_release
from kneerisk.study.scores import typed

if TYPE_CHECKING:
    import polars as pl

KNEE = ("participant_id", "side")

_WIDE = re.compile(r"kl_(\d+)m$")
_ALIASES = {"kl_grade": "kl", "month": "visit_month", "months": "visit_month"}
_NO_GRADE = frozenset({"", ".", "na", "nan", "null", "none", "n/a", "8", "9", "p", "s", "x", "z"})
_SIDES = {"l": "L", "left": "L", "r": "R", "right": "R"}


@dataclass(frozen=True)
class Labels:
    """Readings of knees over visits."""

    source: str
    """The file's or folder's name."""
    kind: Literal["long", "wide", "oai", "most"]
    readings: pl.DataFrame
    """``participant_id``, ``side`` (L/R), ``visit_month`` (Int64), ``kl`` (Int64, 0..4): one row a knee and
    visit; visits without a grade have no row."""
    attributes: pl.DataFrame
    """``participant_id``, ``side``, and what else the table says of a knee at its first visit (age, sex…)."""
    without_grade: int
    """Visits whose cell holds no grade: empty, or a release's code for none."""


def read_labels(path: Path) -> Labels:
    """Read a label table.

    Long: ``participant_id``, ``side``, ``visit_month``, ``kl`` (or ``kl_grade``). Wide: ``participant_id``,
    ``side``, ``kl_0m``, ``kl_12m``, … Every other column is kept as an attribute of the knee. CSV, TSV, text
    or Parquet. A release's own table of readings (OAI's ``kxr_sq_bu…``, MOST's ``MOSTV01235XRAY``), or the
    folder with such tables, is read as it was distributed.

    Raises:
        UsageError: the file is no label table, a side or a grade is not understood, or a knee and visit
            stand there twice; with how many rows that concerns and one of them.
    """
    if not is_release(path):
        return _tidy(read_text(path), path)
    kind, readings, known = read_release(path)
    grades, attributes = frames(readings, known)
    graded = grades.drop_nulls("kl")
    return Labels(path.name, kind, graded, attributes, len(grades) - len(graded))


def read_text(path: Path) -> pl.DataFrame:
    """Any table, every cell as stripped text, empty cells null."""
    import polars as pl

    try:
        if path.suffix.casefold() in (".parquet", ".pq"):
            frame = read_parquet(path)
            whole = [
                pl.col(name).cast(pl.Int64)
                for name, kind in frame.schema.items()
                if kind.is_float() and frame[name].drop_nulls().drop_nans().eq(frame[name].round()).all()
            ]
            frame = frame.with_columns(pl.selectors.float().fill_nan(None)).with_columns(whole)
            frame = frame.select(pl.all().cast(pl.String))
        else:
            with path.open(encoding="utf-8-sig") as file:
                delimiter = max("|\t,;", key=file.readline().count)
            frame = read_csv(path, separator=delimiter, infer_schema=False, encoding="utf8-lossy")
            frame = restored(frame)  # it may have been made from a table of ours
    except (OSError, UnicodeError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read as a table of labels: {error}") from error
    frame = frame.rename({name: name.strip().lstrip("\ufeff") for name in frame.columns})
    stripped = pl.all().str.strip_chars()
    return frame.select(pl.when(stripped != "").then(stripped).name.keep())


def _tidy(text: pl.DataFrame, path: Path) -> Labels:
    import polars as pl

    lower = {name: _ALIASES.get(name.casefold(), name.casefold()) for name in text.columns}
    known = {"participant_id", "side", "visit_month", "kl"}
    text = text.rename({a: b for a, b in lower.items() if (b in known or _WIDE.match(b)) and a != b})
    wide = [name for name in text.columns if _WIDE.match(name)]
    is_long = {"visit_month", "kl"} <= set(text.columns)
    if not set(KNEE) <= set(text.columns) or not (wide or is_long):
        raise UsageError(
            f"{path} is no table of labels: it needs participant_id and side, and either visit_month and kl "
            f"(one row a visit) or kl_0m, kl_12m, … (one row a knee); it has {', '.join(text.columns[:12])}"
        )
    if wide and is_long:
        raise UsageError(f"{path} has visit_month and kl, and {wide[0]} too: keep one way to write grades")
    text = _with_sides(text, path)
    if is_long:
        months = text["visit_month"].str.extract(r"^m?0*(\d+)(?:\.0*)? ?m?$").cast(pl.Int64)
        _refuse_cells(text, months.is_null(), "visit_month", path, "write months such as 0, 12 or 24")
        grades = text.select(*KNEE, visit_month=months, kl="kl")
        others = [name for name in text.columns if name not in known]
        first = text.select(*KNEE, *others).with_columns(_month=months).sort("_month", maintain_order=True)
        attributes = first.drop("_month").unique(KNEE, keep="first", maintain_order=True)
    else:
        grades = text.select(*KNEE, *wide).unpivot(wide, index=list(KNEE), value_name="kl")
        grades = grades.with_columns(visit_month=pl.col("variable").str.extract(_WIDE.pattern).cast(pl.Int64))
        attributes = text.drop(wide)
    refuse_twice(grades, (*KNEE, "visit_month"), f"{path.name}: knees and visits")
    readings = grades.select(*KNEE, "visit_month", kl=_grades(grades, path))
    return Labels(
        source=path.name,
        kind="long" if is_long else "wide",
        readings=readings.drop_nulls("kl"),
        attributes=typed(attributes.drop("kl", "visit_month", strict=False)),
        without_grade=int(readings["kl"].null_count()),
    )


def _with_sides(text: pl.DataFrame, path: Path) -> pl.DataFrame:
    import polars as pl

    sides = text["side"].str.to_lowercase().replace_strict(_SIDES, default=None, return_dtype=pl.String)
    hint = "write L or R (in OAI's tables 1 is the right knee and 2 the left)"
    _refuse_cells(text, sides.is_null(), "side", path, hint)
    _refuse_cells(text, text["participant_id"].is_null(), "participant_id", path, "name every participant")
    return text.with_columns(side=sides)


def _grades(frame: pl.DataFrame, path: Path) -> pl.Series:
    """Cells → grades; a release's codes for no grade are null, anything else that is no grade is refused."""
    import polars as pl

    cells = frame["kl"]
    grades = cells.str.extract(r"^([0-4])(?:\.0*)?$").cast(pl.Int64)
    none = (
        cells.is_null()
        | cells.str.to_lowercase().is_in(list(_NO_GRADE))
        | cells.str.contains(r"^\.[A-Z]?(:|$)")
    )
    _refuse_cells(frame, grades.is_null() & ~none, "kl", path, "write a grade from 0 to 4, or leave it empty")
    return grades


def _refuse_cells(frame: pl.DataFrame, bad: pl.Series, column: str, path: Path, hint: str) -> None:
    count = int(bad.sum())
    if count:
        row = bad.arg_true()[0]
        raise UsageError(
            f"{path}: {column} is not understood in {count} of {len(frame)} rows, such as "
            f"{frame[column][row]!r} of participant {frame['participant_id'][row]}: {hint}"
        )


def refuse_twice(frame: pl.DataFrame, keys: tuple[str, ...], what: str) -> None:
    """UsageError with how many of the keys stand there more than once, and one of them."""
    import polars as pl

    named = frame.drop_nulls("participant_id")
    twice = named.filter(pl.struct(keys).is_duplicated())
    if len(twice):
        raise UsageError(
            f"{what} that stand there more than once: {len(twice.select(keys).unique())}, such as "
            f"{', '.join(f'{key} {twice[key][0]}' for key in keys)}: keep one row of each"
        )
