"""Tables and documents that a study writes: whole or not at all, a dictionary inside or beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk_engines.files import written_whole

from kneerisk.errors import UsageError
from kneerisk.frames import parquet_schema, scan_parquet
from kneerisk.scoring.outputs import cells, table
from kneerisk.scoring.outputs.places import is_same, places_of, refuse_clashes
from kneerisk.storage import writing
from kneerisk.study.results import Evaluation
from kneerisk.study.scores import read_scores

if TYPE_CHECKING:
    import polars as pl

_PREFIX = "kneerisk."
_LIST_SEPARATOR = ";"


def check(out: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """UsageError where ``out`` is no table's name, is one of the inputs, or is there already."""
    table.format_of(out)
    check_free(out, overwrite=overwrite, inputs=inputs)
    refuse_clashes(places_of("--out", out), inputs)


def check_free(out: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """UsageError where ``out`` is one of the inputs, is there already, or has no folder to lie in."""
    if any(is_same(out, path) for path in inputs):
        raise UsageError(f"{out} is the input itself: choose another name")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists: write over it with --overwrite, or choose another name")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"the folder of {out} does not exist: make it first")
    refuse_clashes([("the output", out)], inputs)


def check_figures(out: Path, *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """:func:`check_free`, of a file of figures: .json or .csv."""
    if out.suffix.lower() not in (".json", ".csv"):
        raise UsageError(f"{out.name}: figures are written to .json or .csv")
    check_free(out, overwrite=overwrite, inputs=inputs)


def write_figures(found: Evaluation, out: Path) -> None:
    """An evaluation: all of it as .json, or each figure of each group as a row of .csv."""
    import polars as pl

    if out.suffix.lower() == ".json":
        write_text(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n", out)
    else:
        frame = pl.DataFrame(list(found.rows()), infer_schema_length=None)
        write_text(cells.escaped(frame.lazy()).collect().write_csv(), out)


def write(frame: pl.DataFrame, out: Path, documents: Mapping[str, Any], *, bom: bool = False) -> None:
    """A frame as .parquet, its documents inside, or as .csv, its documents beside it."""
    _write(frame.lazy(), out, documents, bom)


def write_beside(
    path: Path, new: pl.DataFrame, out: Path, documents: Mapping[str, Any], *, bom: bool = False
) -> int:
    """A score table with new columns, behind its own or in place of those of the same name; gives its rows.

    A Parquet table streams through: its other columns are never in memory together.
    """
    import polars as pl

    names = parquet_schema(path).names() if table.format_of(path) == "parquet" else []
    if "risk_12m_calibrated" in names or not names:
        old = read_scores(path, landmarks=True).frame.lazy()
        names = old.collect_schema().names()
    else:
        old = scan_parquet(path)
    kept = old.select([name for name in names if name not in new.columns])
    order = [*names, *(name for name in new.columns if name not in names)]
    joined = pl.concat([kept, new.lazy()], how="horizontal").select(order)
    _write(joined, out, documents, bom)
    return len(new)


def write_text(text: str, out: Path) -> None:
    """A document in UTF-8."""
    with _aside(out) as aside:
        aside.write_text(text, "utf-8")


def _write(frame: pl.LazyFrame, out: Path, documents: Mapping[str, Any], bom: bool) -> None:
    import polars as pl

    with _aside(out) as aside:
        if table.format_of(out) == "parquet":
            texts = {_PREFIX + k: json.dumps(v, ensure_ascii=False) for k, v in documents.items()}
            frame.sink_parquet(aside, metadata=texts)
            return
        lists = [name for name, kind in frame.collect_schema().items() if isinstance(kind, pl.List)]
        flat = frame.with_columns(pl.col(name).list.join(_LIST_SEPARATOR) for name in lists)
        cells.escaped(flat).sink_csv(aside, include_bom=bom)
        beside = {_PREFIX + k: v for k, v in documents.items()}
        write_text(json.dumps(beside, indent=2, ensure_ascii=False) + "\n", table.metadata_beside(out))


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A name to write under; renamed to ``out`` when all went well, else removed."""
    with writing(out), written_whole(out) as aside:
        yield aside
