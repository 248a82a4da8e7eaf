"""Pairs of visits of one knee: the current radiograph, the future one, and the months between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kneerisk.releases.records import KneeKey

HORIZONS = (12, 24, 36, 48)
"""Months ahead that are forecast."""
_TOLERANCE = 0.25
"""Share of a horizon that a pair's true months may differ from it: MOST's visits lie 15, 30, 60 months on."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VisitPairs:
    """P pairs of rows of the manifest."""

    current: Indices
    """[P]: row of the earlier visit."""
    future: Indices
    """[P]: row of the later one."""
    months: npt.NDArray[np.int32]
    """[P]: the true months between them."""
    horizon: npt.NDArray[np.int32]
    """[P]: the one of ``HORIZONS`` that the pair stands for."""


def visit_pairs(keys: Sequence[KneeKey]) -> VisitPairs:
    """For each knee, visit and horizon the visit nearest to that horizon, if it is within a quarter of it.

    A pair stands for the horizon nearest to its months (the shorter of two), and for no other.

    Args:
        keys: the manifest's rows, in order; one a knee and visit.
    """
    visits: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for row, key in enumerate(keys):
        visits[key.participant_id, key.side].append((key.visit_month, row))
    found: list[tuple[int, int, int, int]] = []
    for knee in visits.values():
        for month, row in knee:
            nearest: dict[int, tuple[int, int, int]] = {}
            for later, other in knee:
                gap = later - month
                if gap <= 0:
                    continue
                horizon = min(HORIZONS, key=lambda h: (abs(h - gap), h))
                off = abs(horizon - gap)
                if off <= _TOLERANCE * horizon:
                    nearest[horizon] = min(nearest.get(horizon, (off, gap, other)), (off, gap, other))
            found.extend((row, other, gap, horizon) for horizon, (_, gap, other) in nearest.items())
    table = np.array(sorted(found), np.int64).reshape(-1, 4)
    return VisitPairs(
        table[:, 0].copy(), table[:, 1].copy(), table[:, 2].astype(np.int32), table[:, 3].astype(np.int32)
    )
