"""Tables opened with Polars, by a name that is a name: Polars alone takes ``[2024]`` in one for a pattern.

Errors are Polars's own, and the system's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A Parquet table, or only some of its columns."""
    import polars as pl

    return pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)


def scan_parquet(paths: Path | Sequence[Path]) -> pl.LazyFrame:
    """One or more Parquet tables, one behind the other, to be read as they are asked for."""
    import polars as pl

    return pl.scan_parquet(paths if isinstance(paths, Path) else list(paths), glob=False)


def parquet_schema(path: Path) -> pl.Schema:
    """Column → type, of a Parquet table's footer alone."""
    return scan_parquet(path).collect_schema()


def read_csv(path: Path, **options: Any) -> pl.DataFrame:
    """A CSV table; options are those of ``polars.read_csv``."""
    import polars as pl

    return pl.read_csv(path, glob=False, **options)
