"""The table on disk: Parquet with its metadata inside, or CSV with it beside; never half there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kneerisk_engines.files import put_in_place

from kneerisk.errors import UsageError
from kneerisk.frames import read_csv, read_parquet, scan_parquet
from kneerisk.places.place import is_remote, url_of
from kneerisk.records import CarriedKind
from kneerisk.scoring.outputs import cells
from kneerisk.scoring.outputs.columns import COLUMNS, NAMES, columns, dictionary, recalibrated
from kneerisk.scoring.outputs.rows import Row, carried_value
from kneerisk.storage import writing

if TYPE_CHECKING:
    import polars as pl

Metadata = dict[str, str]
"""Keys ``kneerisk.data_dictionary``, ``kneerisk.run``, ``kneerisk.calibration``: each a JSON document."""

Carried = Mapping[str, CarriedKind]
"""The manifest's own columns, and of what kind each is."""

_NONE: Carried = {}
_ROWS_A_PART = 2000
_LIST_SEPARATOR = ";"
_KEY_PREFIX = "kneerisk."


def format_of(path: Path) -> Literal["parquet", "csv"]:
    """By the suffix; UsageError where it is neither."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return "parquet"
    if suffix == ".csv":
        return "csv"
    raise UsageError(f"{path.name}: a table ends in .parquet or .csv")


def schema(extra: Carried = _NONE) -> dict[str, pl.DataType | type[pl.DataType]]:
    """Column name → Polars type, in the table's order."""
    import polars as pl

    types: dict[str, pl.DataType | type[pl.DataType]] = {
        "text": pl.String,
        "integer": pl.Int64,
        "real": pl.Float64,
        "boolean": pl.Boolean,
        "date": pl.Date,
        "texts": pl.List(pl.String),
    }
    return {column.name: types[column.kind] for column in columns(extra)}


def frame(rows: Sequence[Row], extra: Carried = _NONE) -> pl.DataFrame:
    """Rows → a frame of the table's schema; what a manifest brought may still be text in them."""
    import polars as pl

    types = schema(extra)
    listed = [{name: row.get(name) for name in types} for row in rows]
    for name, kind in extra.items():
        for row in listed:
            if isinstance(cell := row[name], str):
                row[name] = carried_value(kind, cell)
    return pl.DataFrame(listed, schema=types, orient="row")


def metadata(run: Mapping[str, Any], calibration: Mapping[str, Any], extra: Carried = _NONE) -> Metadata:
    """What travels with the rows: data dictionary, run manifest, calibration and its population."""
    meanings = recalibrated(dictionary(extra), run.get("recalibrated", {}))
    documents = {"data_dictionary": meanings, "run": run, "calibration": calibration}
    return {_KEY_PREFIX + key: json.dumps(value, ensure_ascii=False) for key, value in documents.items()}


def write(
    rows: Iterable[Row],
    out: Path,
    documents: Callable[[], Metadata],
    extra: Carried,
    workspace: Path,
    *,
    bom: bool = False,
) -> int:
    """Stream rows into ``out`` and return how many; ``out`` is complete or absent at every moment.

    Args:
        rows: in the table's order; only a few thousand are held at a time.
        out: ends in .parquet or .csv; replaced if it is there.
        documents: gives :func:`metadata`; called when every row has passed.
        extra: the manifest's own columns.
        workspace: a folder on the same file system as ``out``, for the parts.
        bom: start a CSV with a byte-order mark.

    Raises:
        StorageError: the disk does not take it.
    """
    with writing(out):
        return _write(rows, out, documents, extra, workspace, bom)


def _write(
    rows: Iterable[Row],
    out: Path,
    documents: Callable[[], Metadata],
    extra: Carried,
    workspace: Path,
    bom: bool,
) -> int:
    kind = format_of(out)
    aside = workspace / f"table.{kind}"
    count = 0
    if kind == "parquet":
        count = _write_parquet(rows, aside, documents, extra, workspace)
        replace_with(aside, out)
        return count
    with aside.open("wb") as stream:
        for index, part in enumerate(_frames(rows, extra)):
            import polars as pl

            flat = part.with_columns(pl.col("qc_flags").list.join(_LIST_SEPARATOR))
            safe = cells.escaped(flat.lazy()).collect()
            safe.write_csv(stream, include_header=index == 0, include_bom=bom and index == 0)
            count += len(part)
    beside = workspace / "table.json"
    beside.write_text(
        json.dumps({k: json.loads(v) for k, v in documents().items()}, indent=2, ensure_ascii=False), "utf-8"
    )
    replace_with(beside, metadata_beside(out))
    replace_with(aside, out)
    return count


def read(path: Path) -> pl.DataFrame:
    """A written table, CSV or Parquet, with the same types; UsageError where it is no table of kneerisk's."""
    import polars as pl

    _refuse_remote(path)
    try:
        if format_of(path) == "parquet":
            table = read_parquet(path)
        else:
            table = cells.restored(read_csv(path, infer_schema=False))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{path} cannot be read as a table: {error}") from error
    missing = [name for name in schema() if name not in table.columns]
    if missing:
        raise UsageError(f"{path} is no table that this kneerisk wrote: it lacks {', '.join(missing[:5])}")
    if format_of(path) == "parquet":
        return table
    kinds = _kinds_beside(path)
    extra = [_parsed(name, kinds.get(name, "text")) for name in table.columns if name not in NAMES]
    casts = [
        pl.col("qc_flags")
        .fill_null("")
        .str.split(_LIST_SEPARATOR)
        .list.eval(pl.element().filter(pl.element() != ""))
        if column.kind == "texts"
        else (pl.col(column.name) == "true")
        if column.kind == "boolean"
        else pl.col(column.name).cast(schema()[column.name])
        for column in COLUMNS
    ]
    return table.select(*casts, *extra)


def _refuse_remote(path: Path) -> None:
    if is_remote(path):
        raise UsageError(f"{url_of(path)}: copy the table to this machine, and name the copy")


def _kinds_beside(path: Path) -> dict[str, str]:
    """What a CSV's own dictionary says of its columns' kinds; nothing where it was left behind."""
    try:
        meanings = read_metadata(path)["data_dictionary"]
        return {name: entry["kind"] for name, entry in meanings.items()}
    except (UsageError, KeyError):
        return {}


def _parsed(name: str, kind: str) -> pl.Expr:
    """A carried column of a CSV, as it was before it was written."""
    import polars as pl

    column = pl.col(name)
    if kind == "boolean":
        return pl.when(column.is_not_null()).then(column == "true")
    if kind == "date":
        return column.str.to_date("%Y-%m-%d")
    return column.cast({"integer": pl.Int64, "real": pl.Float64}.get(kind, pl.String))


def read_metadata(path: Path) -> dict[str, Any]:
    """The documents of a written table, parsed: ``data_dictionary``, ``run``, ``calibration``."""
    import polars as pl

    _refuse_remote(path)
    try:
        if format_of(path) == "parquet":
            found = {
                k: json.loads(v)
                for k, v in pl.read_parquet_metadata(path).items()
                if k.startswith(_KEY_PREFIX)
            }
        else:
            found = json.loads(metadata_beside(path).read_text("utf-8"))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise UsageError(
            f"{path}: its metadata cannot be read ({error}); was it written by kneerisk?"
        ) from error
    documents = {key.removeprefix(_KEY_PREFIX): value for key, value in found.items()}
    if "run" not in documents:
        raise UsageError(f"{path} carries no run manifest: it was not written by kneerisk")
    return documents


def metadata_beside(out: Path) -> Path:
    """Where a CSV's metadata lies."""
    return out.with_name(out.name + ".json")


def replace_with(aside: Path, out: Path) -> None:
    """Move a finished file into place; StorageError where the disk does not take it."""
    with writing(out):
        put_in_place(aside, out)


def _write_parquet(
    rows: Iterable[Row], aside: Path, documents: Callable[[], Metadata], extra: Carried, workspace: Path
) -> int:
    """Parts, then one file streamed from them: Polars cannot append to a Parquet file."""
    parts: list[Path] = []
    count = 0
    for index, part in enumerate(_frames(rows, extra)):
        parts.append(workspace / f"part-{index:06d}.parquet")
        part.write_parquet(parts[-1])
        count += len(part)
    if len(parts) == 1:
        read_parquet(parts[0]).write_parquet(aside, metadata=documents())
    else:
        scan_parquet(parts).sink_parquet(aside, metadata=documents(), row_group_size=_ROWS_A_PART * 4)
    for path in parts:
        path.unlink()
    return count


def _frames(rows: Iterable[Row], extra: Carried) -> Iterator[pl.DataFrame]:
    """At least one frame, so that a table without rows has its header."""
    stream = iter(rows)
    part = list(islice(stream, _ROWS_A_PART))
    yield frame(part, extra)
    while part := list(islice(stream, _ROWS_A_PART)):
        yield frame(part, extra)
