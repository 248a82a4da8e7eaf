from __future__ import annotations

import math

import numpy as np
import pytest

from kneerisk.method.joint_space import joint_space
from kneerisk.records import LANDMARKS


def flat_joint(gap_lateral: float, gap_medial: float) -> np.ndarray:
    """Level plateaus 80 mm wide, condyles a constant gap above them."""
    points = np.zeros((16, 2))
    for i, name in enumerate(LANDMARKS):
        if name[0] == "T":
            points[i] = (10 * int(name[1]), 50)
        else:
            gap = gap_lateral if int(name[1]) < 3 else gap_medial
            points[i] = (80 / 6 * int(name[1]), 50 - gap)
    return points


def test_widths_are_the_gaps() -> None:
    medial, lateral = joint_space(flat_joint(6, 3.5))
    assert (medial.minimum, medial.mean) == pytest.approx((3.5, 3.5))
    assert (lateral.minimum, lateral.mean) == pytest.approx((6, 6))


def test_mirroring_changes_nothing() -> None:
    points = flat_joint(6, 3.5) + np.random.default_rng(0).normal(0, 0.5, (16, 2))
    assert joint_space(points * (-1, 1)) == pytest.approx(joint_space(points))


def test_the_minimum_is_where_the_margins_come_nearest() -> None:
    points = flat_joint(6, 4)
    points[LANDMARKS.index("F5"), 1] += 3
    medial, _ = joint_space(points)
    assert medial.minimum == pytest.approx(1, abs=0.15)
    assert medial.mean > medial.minimum + 0.5


def test_crossed_margins_have_no_space() -> None:
    medial, _ = joint_space(flat_joint(6, -2))
    assert medial.minimum == medial.mean == 0


def test_landmarks_in_disorder_have_none() -> None:
    points = flat_joint(6, 4)
    points[[LANDMARKS.index(f"F{i}") for i in (4, 5, 6)], 0] += 1000
    medial, lateral = joint_space(points)
    assert math.isnan(medial.minimum)
    assert lateral.minimum == pytest.approx(6)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="16 points"):
        joint_space(np.zeros((15, 2)))
