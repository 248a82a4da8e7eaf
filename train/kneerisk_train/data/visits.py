"""Equations of further outcomes, fitted to what readers saw of a cohort's knees at later visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from kneerisk.study.labels import WINDOW_MONTHS
from kneerisk.study.outcomes import MONTHS
from kneerisk.study.risks.equations import Equations, fit
from kneerisk_train.data.equations import seen_by_equations
from kneerisk_train.data.knees import UNGRADED, Knees

Array = npt.NDArray[np.float64]


def fitted(knees: Knees, p_now: npt.ArrayLike, *, population: str, posteriors: str) -> Equations | None:
    """Equations of knees that were read again later; ``None`` where no outcome has events enough for one.

    Args:
        knees: N knees at all their visits.
        p_now: [N, 5], what the stack says of each grade now.
        population: whose readings these are, in words.
        posteriors: the stack's name with its version.
    """
    seen = seen_by_equations(knees, p_now)
    found = fit(seen, later_grades(knees), population=population, posteriors=posteriors)
    return found if found.equations else None


def later_grades(knees: Knees) -> Mapping[int, Array]:
    """Months → [N], the reader's grade of each knee that much later; NaN where it was not read then.

    The reading nearest to the horizon counts, within three months of it, as in a study's labels.
    """
    readings: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    whose = list(zip(knees.participant.tolist(), knees.side.tolist(), strict=True))
    for knee, month, grade in zip(whose, knees.month.tolist(), knees.grade.tolist(), strict=True):
        if grade != UNGRADED:
            readings[knee][month] = grade
    later = {months: np.full(len(knees), np.nan) for months in MONTHS}
    for row, (knee, start) in enumerate(zip(whose, knees.month.tolist(), strict=True)):
        visits = readings[knee]
        for months, grades in later.items():
            nearest = min(visits, key=lambda month: abs(month - start - months), default=None)
            if nearest is not None and abs(nearest - start - months) <= WINDOW_MONTHS:
                grades[row] = visits[nearest]
    return later
