"""Text cells of a CSV that no spreadsheet takes for a formula, and the way back.

A spreadsheet runs what a cell says after ``=``, ``+``, ``-`` or ``@``, and ids, file names and headers are
typed by others.  A cell that begins so gets an apostrophe before it, and one that already has apostrophes
there one more; reading takes one away.  So no text is lost, and none is changed but these.  Numbers in text
columns (``-3.5``) stay as they are: there is nothing to run in them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_SIGNS = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""What starts a formula, full-width forms too, or is skipped before one."""
_DANGEROUS = f"^'*[{_SIGNS}]"
_MARKED = f"^'+[{_SIGNS}]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def escaped(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame as a CSV is to hold it: texts, and columns' names."""
    import polars as pl

    texts = pl.selectors.string()
    formula = texts.str.contains(_DANGEROUS) & ~texts.str.contains(_NUMBER)
    marked = pl.when(formula).then(pl.lit("'") + texts).otherwise(texts).name.keep()
    return frame.with_columns(marked).rename(_escaped_name, strict=False)


def restored(frame: pl.DataFrame) -> pl.DataFrame:
    """What :func:`escaped` took, from a CSV read as text."""
    import polars as pl

    texts = pl.selectors.string()
    plain = pl.when(texts.str.contains(_MARKED)).then(texts.str.slice(1)).otherwise(texts).name.keep()
    return frame.with_columns(plain).rename(restored_name, strict=False)


def restored_name(name: str) -> str:
    """A column's name, from a CSV's first line."""
    return name[1:] if re.match(_MARKED, name) else name


def _escaped_name(name: str) -> str:
    return f"'{name}" if re.match(_DANGEROUS, name) and not re.match(_NUMBER, name) else name
