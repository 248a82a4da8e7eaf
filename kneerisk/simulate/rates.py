"""How often Kellgren-Lawrence grades move: plain rates, for the simulator to imitate.

Source: rates of grade change in the OAI, plain rates over the knees of Chen's train and val participants (the
knees of doi 10.17632/56rmx5bjcr.1).  No participant's record can be read off them.
"""

from __future__ import annotations

from collections.abc import Mapping

Row = tuple[float, float, float, float, float]

KL_TRANSITIONS: Mapping[int, tuple[Row, Row, Row, Row, Row]] = {
    12: (
        (0.9628, 0.0226, 0.0129, 0.0016, 0.0),
        (0.0, 0.9051, 0.0817, 0.0114, 0.0018),
        (0.0, 0.0, 0.926, 0.0716, 0.0025),
        (0.0, 0.0, 0.0, 0.9244, 0.0756),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ),
    24: (
        (0.9489, 0.0303, 0.0186, 0.0022, 0.0),
        (0.0, 0.8877, 0.0901, 0.0223, 0.0),
        (0.0, 0.0, 0.9075, 0.0859, 0.0066),
        (0.0, 0.0, 0.0, 0.8899, 0.1101),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ),
    36: (
        (0.9326, 0.0317, 0.029, 0.0068, 0.0),
        (0.0, 0.8382, 0.1157, 0.0442, 0.0019),
        (0.0, 0.0, 0.8812, 0.1103, 0.0084),
        (0.0, 0.0, 0.0, 0.8453, 0.1547),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ),
    48: (
        (0.9191, 0.0362, 0.0335, 0.0107, 0.0005),
        (0.0, 0.814, 0.1285, 0.0487, 0.0088),
        (0.0, 0.0, 0.8527, 0.135, 0.0123),
        (0.0, 0.0, 0.0, 0.7945, 0.2055),
        (0.0, 0.0, 0.0, 0.0, 1.0),
    ),
}
"""P(KL after so many months | KL now): months → a row for each grade now, a column for each grade then."""

BASELINE_SHARES: Row = (2614 / 6604, 1199 / 6604, 1728 / 6604, 863 / 6604, 200 / 6604)
"""Grades 0 to 4 among those knees at baseline."""


def rise_rate(grade: int, months: int) -> float:
    """P(a knee of ``grade`` has a higher one after ``months``), of the months in ``KL_TRANSITIONS``."""
    return float(sum(KL_TRANSITIONS[months][grade][grade + 1 :]))
