"""What a risk must beat: the grade alone, the grade with age, sex and BMI, the plain prevalence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import polars as pl

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.int64]

GRADE = "baseline KL"
PREVALENCE = "prevalence"
_CLINICAL = ("age", "sex", "bmi")
_FOLDS = 5
_WEAK_PENALTY = 1e4
"""C of the logistic regression: next to none, so that a grade without events keeps a finite coefficient."""


def column_named(frame: pl.DataFrame, name: str) -> str | None:
    """A frame's column by its name in any case; ``None`` where there is none."""
    return next((column for column in frame.columns if column.casefold() == name), None)


def by_grade(grade: npt.NDArray[np.int64], event: Flags) -> Array:
    """Each knee's risk by its grade alone: how often that grade had the event, here.

    Taken from the very knees that it is measured on: a handful of rates, in the baseline's favour.
    """
    events = np.bincount(grade, weights=event.astype(np.float64), minlength=5)
    knees = np.bincount(grade, minlength=5)
    return np.asarray((events / np.maximum(knees, 1))[grade])


def clinical_columns(frame: pl.DataFrame) -> tuple[str, ...]:
    """Which of age, sex and BMI the knees have, as their columns are called."""
    named = (column_named(frame, name) for name in _CLINICAL)
    return tuple(name for name in named if name is not None and frame[name].null_count() < len(frame))


def clinical(
    frame: pl.DataFrame, grade: npt.NDArray[np.int64], event: Flags, owner: Owners
) -> tuple[Array, Flags] | None:
    """Risk by the grade with age, sex and BMI, by logistic regression.

    Each participant's knees are predicted by a fit to the others' (five folds), so that nothing is measured
    on what it was fitted to.

    Returns:
        Risks [N], and which knees have all that it takes (the others' risks mean nothing); ``None`` where no
        such column is there or the knees are too few.
    """
    from sklearn.linear_model import LogisticRegression

    names = clinical_columns(frame)
    if not names:
        return None
    columns = [np.equal.outer(grade, np.arange(1, 5)).astype(np.float64)]
    known = np.ones(len(frame), dtype=bool)
    for name in names:
        found = _coded(frame[name])
        if found is None:
            continue
        known &= ~np.isnan(found).any(axis=1)
        columns.append(found)
    if len(columns) == 1:
        return None
    x = np.nan_to_num(np.concatenate(columns, axis=1))
    spread = x[known].std(axis=0) if known.any() else np.zeros(x.shape[1])
    x = (x - x[known].mean(axis=0) if known.any() else x) / np.where(spread > 0, spread, 1.0)
    inside = np.flatnonzero(known)
    y, who = event[inside], owner[inside]
    if min(len(np.unique(who[y])), len(np.unique(who[~y]))) < 4 * _FOLDS:
        return None
    risk = np.full(len(frame), float(event.mean()))
    for train, test in folds(who):
        model = LogisticRegression(C=_WEAK_PENALTY, solver="newton-cholesky")
        model.fit(x[inside[train]], y[train])
        risk[inside[test]] = model.predict_proba(x[inside[test]])[:, 1]
    return risk, known


def folds(owner: Owners, number: int = _FOLDS) -> Iterator[tuple[Owners, Owners]]:
    """Places of the knees to fit on and of those to predict, each participant's knees on one side."""
    people, place = np.unique(owner, return_inverse=True)
    fold = (np.random.default_rng(0).permutation(len(people)) % number)[place]
    for held in range(number):
        yield np.flatnonzero(fold != held), np.flatnonzero(fold == held)


def _coded(column: pl.Series) -> Array | None:
    """Numbers as they are, words as one column a word but the first; ``None`` where all are the same."""
    import polars as pl

    if column.dtype.is_numeric():
        numbers = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()[:, None]
        return None if np.nanmax(numbers) == np.nanmin(numbers) else numbers
    words = column.cast(pl.String)
    kinds = sorted(words.drop_nulls().unique().to_list())
    if not 2 <= len(kinds) <= 4:
        return None
    coded = np.stack([(words == kind).fill_null(False).to_numpy() for kind in kinds[1:]], axis=1)
    return np.where(words.is_null().to_numpy()[:, None], np.nan, coded.astype(np.float64))
