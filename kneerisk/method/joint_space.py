"""Joint space width from landmarks: a proxy, unvalidated against any reader or software."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kneerisk.records import LANDMARKS

Array = npt.NDArray[np.float64]


def _places(*names: str) -> list[int]:
    return [LANDMARKS.index(name) for name in names]


_LATERAL = _places("T0", "T1", "T2", "T3"), _places("F0", "F1", "F2")
_MEDIAL = _places("T5", "T6", "T7", "T8"), _places("F4", "F5", "F6")
"""Tibial and femoral points of a compartment. T4 (between the spines) and F3 (the notch) bound neither."""
_STEPS = 64


@dataclass(frozen=True, slots=True)
class JointSpace:
    """Width of one compartment, mm."""

    minimum: float
    mean: float


def joint_space(points_mm: npt.ArrayLike) -> tuple[JointSpace, JointSpace]:
    """Medial and lateral joint space width.

    The distance along the image's vertical from the femoral margin down to the tibial margin, both taken as
    polylines through their landmarks, over the span that the two share in a compartment; never below 0.

    Args:
        points_mm: [16, 2] (x, y) in millimetres, y downwards, in the order of ``LANDMARKS``. Pixels are
            turned to millimetres by their own row and column spacing, so anisotropic pixels are right.

    Returns:
        (medial, lateral); NaN where the margins share no span (landmarks in disorder).
    """
    points = np.asarray(points_mm, dtype=np.float64)
    if points.shape != (len(LANDMARKS), 2):
        raise ValueError(f"expected 16 points (x, y); got an array of shape {points.shape}")
    medial, lateral = (_compartment(points, *names) for names in (_MEDIAL, _LATERAL))
    return medial, lateral


def _compartment(points: Array, tibial: list[int], femoral: list[int]) -> JointSpace:
    tibia, femur = _sorted_by_x(points[tibial]), _sorted_by_x(points[femoral])
    left, right = max(tibia[0, 0], femur[0, 0]), min(tibia[-1, 0], femur[-1, 0])
    if not right > left:
        return JointSpace(float("nan"), float("nan"))
    x = np.linspace(left, right, _STEPS)
    gap = np.interp(x, tibia[:, 0], tibia[:, 1]) - np.interp(x, femur[:, 0], femur[:, 1])
    gap = np.maximum(gap, 0.0)
    return JointSpace(float(gap.min()), float(gap.mean()))


def _sorted_by_x(points: Array) -> Array:
    return points[np.argsort(points[:, 0], kind="stable")]
