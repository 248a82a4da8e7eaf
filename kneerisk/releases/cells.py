"""Tables as the releases distribute them, and what their cells mean."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.tables import Row, Table
from kneerisk.records import Side

SUFFIXES = frozenset({".txt", ".csv", ".tsv", ".parquet", ".pq"})

_LABELLED = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*:\s*\S")
_SIDES: dict[str, Side] = {"1": "R", "2": "L", "r": "R", "l": "L", "right": "R", "left": "L"}
_SEXES: dict[str, Literal["F", "M"]] = {"1": "M", "2": "F", "m": "M", "f": "F", "male": "M", "female": "F"}
_YES = {"1": True, "0": False, "yes": True, "no": False, "true": True, "false": False}


class ReleaseTable(Table):
    """A table of a release: its columns in capitals, no line torn."""

    def __init__(self, path: Path, required: Iterable[str] = ()) -> None:
        """Read the header.

        Raises:
            UsageError: the file cannot be read, names a column twice, or lacks a required one.
        """
        super().__init__(path, lambda header: [name.strip("\"'").upper() for name in header], padded=False)
        missing = [name for name in required if name not in self.columns]
        if missing:
            raise UsageError(
                f"{path}: no column is called {' or '.join(missing)} (found: {_listed(self.columns)}); "
                "is this the table as distributed?"
            )

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Number and cells of each row, without the first where it explains the columns, as NDA's does."""
        rows = super().__iter__()
        for first in rows:
            explains = any(" " in first[1].get(name, "") for name in ("SUBJECTKEY", "SRC_SUBJECT_ID"))
            yield from rows if explains else chain([first], rows)


def is_missing(cell: str) -> bool:
    """Empty, ``.``, or one of OAI's labelled codes: ``.A: Not Expected``, ``.: Missing Form/…``."""
    return (
        cell in ("", ".")
        or bool(re.match(r"\.[A-Z]?(:|$)", cell))
        or cell.casefold() in ("na", "nan", "null")
    )


def code_of(cell: str) -> str:
    """A cell without its label: ``1: Right`` → ``1``."""
    labelled = _LABELLED.match(cell)
    return labelled.group(1) if labelled else cell.strip()


def side_of(cell: str) -> Side | None:
    """1 or R → right, 2 or L → left; ``None`` for anything else."""
    return _SIDES.get(code_of(cell).casefold())


def sex_of(cell: str) -> Literal["F", "M"] | None:
    """1 or M → male, 2 or F → female; ``None`` for anything else."""
    return _SEXES.get(code_of(cell).casefold())


def yes_of(cell: str) -> bool | None:
    """1 or yes, 0 or no; ``None`` for anything else, missing codes among it."""
    return _YES.get(code_of(cell).casefold())


def number_of(cell: str) -> float | None:
    """A number; ``None`` for missing codes and for anything that is no finite number."""
    if is_missing(cell):
        return None
    try:
        value = float(code_of(cell))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def grade_of(cell: str) -> int | None:
    """A Kellgren-Lawrence grade, 0 to 4; ``None`` for every other number, code or word."""
    value = number_of(cell)
    return int(value) if value in (0, 1, 2, 3, 4) else None


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
