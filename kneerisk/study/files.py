"""What a study writes: frames as Parquet or CSV with their dictionary, never half there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk.errors import UsageError
from kneerisk.scoring.outputs.table import format_of, metadata_beside, replace_with

if TYPE_CHECKING:
    import polars as pl


def write_frame(
    frame: pl.DataFrame, out: Path, meanings: Mapping[str, str], documents: Mapping[str, Any] | None = None
) -> None:
    """Write a frame; ``out`` is complete or absent.

    Args:
        frame: lists of text become text with ``;`` between in a CSV.
        out: ends in .parquet, which holds its dictionary, or .csv, which has it in a .json beside it.
        meanings: column → what it holds; those of columns that the frame lacks are left out.
        documents: what else a reader must know, by name; plain JSON.
    """
    import polars as pl

    dictionary = {name: {"meaning": meanings[name]} for name in frame.columns if name in meanings}
    found = {"data_dictionary": dictionary, **(documents or {})}
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".new")
    if format_of(out) == "parquet":
        frame.write_parquet(
            aside, metadata={f"kneerisk.{k}": json.dumps(v, ensure_ascii=False) for k, v in found.items()}
        )
    else:
        lists = [name for name, kind in frame.schema.items() if kind == pl.List(pl.String)]
        frame.with_columns(pl.col(lists).list.join(";")).write_csv(aside)
        write_text(
            metadata_beside(out),
            json.dumps({f"kneerisk.{k}": v for k, v in found.items()}, indent=2, ensure_ascii=False) + "\n",
        )
    replace_with(aside, out)


def write_text(out: Path, text: str) -> None:
    """Write UTF-8 text; ``out`` is complete or absent."""
    write_bytes(out, text.encode("utf-8"))


def write_bytes(out: Path, content: bytes) -> None:
    """Write bytes; ``out`` is complete or absent."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(out.name + ".new")
    aside.write_bytes(content)
    replace_with(aside, out)


def refuse_existing(
    outputs: Iterable[Path | None], overwrite: bool, *, inputs: Iterable[Path | None]
) -> None:
    """UsageError where a file to write is an input, or is there and must not be replaced."""
    given = [path for path in outputs if path is not None]
    read = {path.resolve() for path in inputs if path is not None}
    for path in given:
        if path.resolve() in read:
            raise UsageError(f"{path} is read by this command: choose another name to write to")
    if len({path.resolve() for path in given}) < len(given):
        raise UsageError("two files are to be written under one name: choose two names")
    there = [str(path) for path in given if path.exists()]
    if there and not overwrite:
        raise UsageError(f"{', '.join(there)} exists: write over it with --overwrite, or choose another name")
