"""``--out s3://…``: a table is made in the working folder and goes into a store, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kneerisk_engines.files import written_whole

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.places.place import DICOMWEB, scheme_of, url_of
from kneerisk.places.reach import read_bytes
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.journal.record import FileState
from kneerisk.scoring.outputs.table import format_of, metadata_beside
from kneerisk.scoring.settings import RunSettings

_MOST = 1 << 40


@contextmanager
def at_home(run: RunSettings) -> Iterator[RunSettings]:
    """The same run into a table of the same name in the working folder, where its journal lies.

    A finished table that the run goes on with is fetched from its store first, unless the working folder
    has the journal of an unfinished run, which goes on; a copy that nothing was done with is taken away.

    Raises:
        UsageError: before anything is scored: the store cannot be reached; its table is there and is neither
            to be replaced nor gone on with; the working folder has a table of that name, too.
    """
    home = Path(run.out.name)
    there = _is_there(run.out)
    if there and not (run.overwrite or run.resumes):
        raise UsageError(
            f"{url_of(run.out)} exists: write over it with --overwrite, keep its rows with --resume or "
            "--retry-failed, or choose another --out"
        )
    fetched: FileState | None = None
    if there and run.resumes and not folder_of(home).exists():
        if home.exists():
            raise UsageError(
                f"{url_of(run.out)} exists, and so does {home} in the working folder: move away the one that "
                "is not to be gone on with"
            )
        _fetch(run.out, home)
        fetched = FileState.of(home)
    try:
        yield replace(run, out=home)
    finally:
        if fetched is not None and fetched == FileState.of(home) and not folder_of(home).exists():
            for path in _files_of(home):
                path.unlink(missing_ok=True)


def _is_there(out: Path) -> bool:
    from kneerisk.places.objects import exists

    if scheme_of(out) in DICOMWEB:
        raise UsageError(f"--out {url_of(out)}: a PACS keeps no tables; name a file, s3://, gs:// or az://")
    try:
        return exists(out)
    except OSError as error:
        raise UsageError(f"--out {url_of(out)} cannot be reached: {error.strerror}") from error


def _fetch(out: Path, home: Path) -> None:
    for source, target in zip(_files_of(out), _files_of(home), strict=True):
        try:
            content = read_bytes(source, _MOST)
        except OSError as error:
            raise UsageError(
                f"{url_of(source)} cannot be read ({error.strerror}): a run goes on with a whole table"
            ) from error
        with written_whole(target) as aside:
            aside.write_bytes(content)


def _files_of(table: Path) -> list[Path]:
    """Of CSV the metadata first, so that no table is ever without."""
    return [metadata_beside(table), table] if format_of(table) == "csv" else [table]


def send(table: Path, out: Path) -> None:
    """Put a table, of CSV its metadata before it, where ``out`` says, and take it from here.

    Raises:
        KneeriskError: the store did not take it; the table is kept here.
    """
    from kneerisk.places.objects import put

    try:
        for source, target in zip(_files_of(table), _files_of(out), strict=True):
            put(source, target)
    except OSError as error:
        raise KneeriskError(
            f"{url_of(out)} could not be written: {error.strerror}. "
            f"The whole table is {table} in the working folder: copy it from there"
        ) from error
    for source in _files_of(table):
        source.unlink()
