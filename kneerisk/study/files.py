"""What a study's commands write beside their tables, and what they must not write over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk_engines.files import written_whole

from kneerisk.errors import UsageError
from kneerisk.storage import writing
from kneerisk.study import tables

if TYPE_CHECKING:
    import polars as pl


def write_frame(
    frame: pl.DataFrame, out: Path, meanings: Mapping[str, str], documents: Mapping[str, Any] | None = None
) -> None:
    """Write a frame with its dictionary; ``out`` is complete or absent.

    Args:
        frame: what is written.
        out: ends in .parquet or .csv.
        meanings: column → what it holds; those of columns that the frame lacks are left out.
        documents: what else a reader must know, by name; plain JSON.
    """
    dictionary = {name: {"meaning": meanings[name]} for name in frame.columns if name in meanings}
    tables.write(frame, out, {"data_dictionary": dictionary, **(documents or {})})


def write_bytes(out: Path, content: bytes) -> None:
    """Write bytes; ``out`` is complete or absent.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(out), written_whole(out) as aside:
        aside.write_bytes(content)


def refuse_existing(
    outputs: Iterable[Path | None], overwrite: bool, *, inputs: Iterable[Path | None]
) -> None:
    """UsageError where a file to write is an input, another output, or there and not to be replaced."""
    given = [path for path in outputs if path is not None]
    read = [path for path in inputs if path is not None]
    for path in given:
        tables.check_free(path, overwrite=overwrite, inputs=read)
    if len({path.resolve() for path in given}) < len(given):
        raise UsageError("two files are to be written under one name: choose two names")
