"""The groups of knees that an evaluation looks at: by grade, sex, age, side, site, vendor, quality flag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.study.statistics.baselines import column_named

if TYPE_CHECKING:
    import polars as pl

Groups = tuple[str, Sequence[str], npt.NDArray[np.int64]]
"""A family's name, its groups' names, and each knee's group (negative: none)."""

MOST_VALUES = 20
_AGE_EDGES = (50, 60, 70)
_AGE_NAMES = ("below 50", "50 to 59", "60 to 69", "70 and above")
_PLAIN = ("sex", "side", "site", "vendor", "manufacturer", "race", "ethnicity")


def families(frame: pl.DataFrame, extra: Sequence[str] = ()) -> tuple[list[Groups], list[str]]:
    """Every way to part the knees that their columns allow.

    Args:
        frame: the evaluated knees, with ``reader_kl``.
        extra: further columns to part them by.

    Returns:
        The families, and what was left out of them, a sentence each.

    Raises:
        UsageError: a column of ``extra`` is not there.
    """
    import polars as pl

    found: list[Groups] = []
    notes: list[str] = []
    grade = frame["reader_kl"].to_numpy().astype(np.int64)
    found.append(("baseline KL", [f"KL {g}" for g in range(5)], grade))
    if (age := column_named(frame, "age")) is not None and frame[age].dtype.is_numeric():
        years = frame[age].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        band = np.where(np.isnan(years), -1, np.digitize(years, _AGE_EDGES))
        found.append(("age", _AGE_NAMES, band))
    for name in (*_PLAIN, *extra):
        column = name if name in frame.columns else column_named(frame, name.casefold())
        if column is None:
            if name in extra:
                raise UsageError(f"--by {name}: neither the score table nor the labels have that column")
            continue
        if (parted := _by_value(frame[column])) is None:
            notes.append(f"not parted by {column}: it has more than {MOST_VALUES} values, or fewer than two")
        elif name not in [family for family, _, _ in found]:
            found.append((name, *parted))
    found += list(_by_flag(frame))
    return [each for each in found if len(np.unique(each[2][each[2] >= 0])) > 0], notes


def _by_value(column: pl.Series) -> tuple[list[str], npt.NDArray[np.int64]] | None:
    import polars as pl

    words = column.cast(pl.String)
    names = words.drop_nulls().unique().sort().to_list()
    if not 2 <= len(names) <= MOST_VALUES:
        return None
    place = {name: number for number, name in enumerate(names)}
    return names, words.replace_strict(place, default=-1, return_dtype=pl.Int64).to_numpy()


def _by_flag(frame: pl.DataFrame) -> Iterator[Groups]:
    """No quality flag, or a given one; a knee with two flags is in two groups, so each is a family."""
    if "qc_flags" not in frame.columns:
        return
    flags = frame["qc_flags"]
    has_any = (flags.list.len() > 0).fill_null(False).to_numpy()
    if not has_any.any():
        return
    yield "quality flag", ["none", "any"], has_any.astype(np.int64)
    for name in flags.explode().drop_nulls().unique().sort().to_list()[:MOST_VALUES]:
        inside = flags.list.contains(name).fill_null(False).to_numpy()
        yield f"quality flag {name}", [name], np.where(inside, 0, -1)
