"""``--out s3://…``: a finished table goes into an object store, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places.place import DICOMWEB, scheme_of, url_of
from kneerisk.scoring.outputs.table import format_of, metadata_beside


def refuse_to_send(out: Path, *, overwrite: bool) -> None:
    """UsageError, before anything is scored, where ``out`` cannot be reached, or is there."""
    from kneerisk.places.objects import exists

    if scheme_of(out) in DICOMWEB:
        raise UsageError(f"--out {url_of(out)}: a PACS keeps no tables; name a file, s3://, gs:// or az://")
    try:
        there = exists(out)
    except OSError as error:
        raise UsageError(f"--out {url_of(out)} cannot be reached: {error.strerror}") from error
    if there and not overwrite:
        raise UsageError(f"{url_of(out)} exists: write over it with --overwrite, or choose another --out")


def send(table: Path, out: Path) -> None:
    """Put a table, of CSV its metadata before it, where ``out`` says, and take it from here.

    Raises:
        KneeriskError: the store did not take it; the table is kept here.
    """
    from kneerisk.places.objects import put

    beside = [(metadata_beside(table), metadata_beside(out))] if format_of(table) == "csv" else []
    try:
        for source, target in (*beside, (table, out)):
            put(source, target)
    except OSError as error:
        raise KneeriskError(
            f"{url_of(out)} could not be written: {error.strerror}. "
            f"The whole table is {table} in the working folder: copy it from there"
        ) from error
    for source, _ in (*beside, (table, out)):
        source.unlink()
