"""Which knees rise, where nobody was radiographed twice: equations of the outcome → chances of each grade.

The shipped equations are those of the stack ``compact`` (``outcomes.json``): fitted to OAI readings of the
train and val participants of Chen's set, from the image's posterior, the reader's grade and the other knee.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError
from kneerisk.stack.stack import Stack
from kneerisk.study.outcomes import Outcome
from kneerisk.study.risks.equations import Equations
from kneerisk.study.risks.equations import Knees as Seen
from kneerisk_train.data.knees import UNGRADED, Knees

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]
MONTHS = 12
_MOST = 0.9


def load_equations(path: Path | None = None) -> Equations:
    """Equations from a file in the layout of a stack's ``outcomes.json``; ``None``: compact's.

    Raises:
        UsageError: the file cannot be read.
        StackError: it is no such file.
    """
    if path is None:
        shipped = Stack.load("compact").outcomes()
        if shipped is None:
            raise UsageError("the stack compact has no outcomes.json: give --equations FILE")
        return Equations.from_json(shipped)
    try:
        return Equations.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UsageError(f"--equations {path} cannot be read: {error}") from error


def seen_by_equations(knees: Knees, posterior: npt.ArrayLike, grade: npt.ArrayLike | None = None) -> Seen:
    """Knees as equations look at them: each with its participant's other knee of the same visit.

    Args:
        knees: N knees.
        posterior: [N, 5], the image's P(KL now).
        grade: [N] or one for all, in place of the readers' own.
    """
    p = np.asarray(posterior, np.float64)
    read = np.where(knees.grade == UNGRADED, np.nan, knees.grade.astype(np.float64))
    others = knees.other
    known = others >= 0
    return Seen(
        p,
        read if grade is None else np.broadcast_to(np.asarray(grade, np.float64), read.shape),
        np.where(known[:, None], p[others], np.nan),
        np.where(known, read[others], np.nan),
    )


def hazards(equations: Equations, knees: Knees, posterior: npt.ArrayLike) -> Array:
    """P(the reader's grade rises within 12 months), were the knee read as grade i now: [N, 5], the last 0.

    From grade and other knee where that is there, else from the grade.
    """
    chances = np.zeros((len(knees), 5))
    for grade in range(4):
        seen = seen_by_equations(knees, posterior, grade)
        found, _ = equations.risk(Outcome.ANY_RISE, MONTHS, seen, ("grade+other", "grade"))
        chances[:, grade] = np.nan_to_num(found)
    return chances


def image_risk(equations: Equations, posterior: npt.ArrayLike) -> Array:
    """P(the reader's grade rises within 12 months) from the image alone, [N]."""
    p = np.asarray(posterior, np.float64)
    nothing = np.full(len(p), np.nan)
    seen = Seen(p, nothing, np.full_like(p, np.nan), nothing)
    found, _ = equations.risk(Outcome.ANY_RISE, MONTHS, seen, ("image",))
    return found


def to_rates(
    chances: Array, grade: npt.NDArray[np.int64], rates: Array, weight: Array | None = None
) -> Array:
    """Scale each grade's hazards so that its own knees rise, on average, at a population's rate.

    Args:
        chances: [N, 5], hazards by the grade that a knee is taken for.
        grade: [N], the readers'.
        rates: [5], P(rise within 12 months) by grade.
        weight: [N], of each knee; all the same where not given.
    """
    weight = np.ones(len(grade)) if weight is None else weight
    scaled = chances.copy()
    for now in range(4):
        members = grade == now
        if not members.any():
            continue
        for _ in range(20):  # what the cap takes is given back to the others
            mean = np.average(scaled[members, now], weights=weight[members])
            scaled[:, now] = np.minimum(scaled[:, now] * rates[now] / max(mean, 1e-9), _MOST)
    return scaled


def moves_of(chances: Array, rates: npt.NDArray[np.float64]) -> Array:
    """Hazards [N, 5] → P(grade at 12 months = j | grade now = i) [N, 5, 5]; how far, as the rates say.

    Args:
        chances: P(rise) by the grade that a knee is taken for.
        rates: [5, 5], a population's P(KL at 12 months | KL now), rows summing to one.
    """
    upward = np.triu(rates, k=1)
    total = upward.sum(axis=1, keepdims=True)
    shares = np.divide(upward, total, out=np.zeros_like(upward), where=total > 0)
    rising = np.where(total[:, 0] > 0, chances, 0.0)
    return np.asarray(rising[:, :, None] * shares + (1 - rising)[:, :, None] * np.eye(5))
