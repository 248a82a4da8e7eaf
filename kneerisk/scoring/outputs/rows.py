"""A score or a refusal → one row of the table, as plain values in the order of the columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from kneerisk.errors import UsageError
from kneerisk.method.grade import median_grade
from kneerisk.method.joint_space import joint_space
from kneerisk.records import (
    KL_GRADES,
    LANDMARKS,
    CarriedKind,
    FloatArray,
    KneeCrop,
    KneeScore,
    RadiographRef,
    Refusal,
)
from kneerisk.scoring.outputs.columns import COLUMNS, NAMES

Row = dict[str, Any]

_PROBABILITY_DIGITS = 6
_PIXEL_DIGITS = 2
_MM_DIGITS = 2
_NOVELTY_DIGITS = 4


def row_of_score(score: KneeScore, provenance: Mapping[str, Any]) -> Row:
    """The row of a scored knee.

    Args:
        score: the knee.
        provenance: the columns from ``stack`` to ``kneerisk_version``, the same for every row of a run.
    """
    prediction, crop = score.prediction, score.prediction.crop
    row = _blank(crop.ref, provenance)
    row.update(
        participant_id=crop.participant_id if crop.participant_id is not None else crop.ref.participant_id,
        side=crop.side,
        sop_instance_uid=crop.sop_instance_uid,
        input_sha256=crop.input_sha256,
        status="ok",
        qc_flags=_flags(crop.ref.qc_flags, crop.qc_flags, score.qc_flags),
        risk_12m=_probability(score.risk_12m),
        risk_12m_basis=score.risk_12m_basis,
        risk_12m_lo=_probability(score.risk_12m_lo),
        risk_12m_hi=_probability(score.risk_12m_hi),
        risk_12m_image=_probability(score.risk_12m_image),
        risk_12m_sum=_probability(score.risk_12m_sum),
        novelty=round(prediction.novelty, _NOVELTY_DIGITS),
        px_spacing_mm=None if crop.spacing_mm is None else round(float(np.mean(crop.spacing_mm)), 6),
        spacing_source=crop.spacing_source,
    )
    for prefix, p in (("kl_now", prediction.p_now), ("kl_12m", prediction.p_12m.mean(axis=0))):
        row[prefix] = int(median_grade(p))
        row.update({f"{prefix}_p{g}": _probability(float(p[g])) for g in KL_GRADES})
    row["at_ceiling"] = row["kl_now"] == KL_GRADES[-1]
    row.update(_landmark_values("lm_now", "", prediction.landmarks_now, crop))
    row.update(_landmark_values("lm_12m", "_12m", prediction.landmarks_12m, crop))
    return row


def row_of_refusal(refusal: Refusal, provenance: Mapping[str, Any]) -> Row:
    """The row of an image or a knee that has no score."""
    ref = refusal.ref
    row = _blank(ref, provenance)
    row.update(
        participant_id=refusal.participant_id if refusal.participant_id is not None else ref.participant_id,
        side=refusal.side or (None if ref.side == "both" else ref.side),
        sop_instance_uid=refusal.sop_instance_uid,
        input_sha256=refusal.input_sha256,
        status="failed" if refusal.reason.is_failure else "refused",
        reason=str(refusal.reason),
        message=refusal.message,
        qc_flags=_flags(ref.qc_flags, refusal.qc_flags),
    )
    return row


def check_carried(names: tuple[str, ...]) -> None:
    """UsageError where a manifest's own column bears the name of one of the table's."""
    clash = sorted(NAMES & set(names))
    if clash:
        columns, them = ("columns", "them") if len(clash) > 1 else ("column", "it")
        raise UsageError(
            f"the manifest's {columns} {', '.join(clash)} would collide with the table's own; "
            f"rename {them} in the manifest"
        )


def carried_value(kind: CarriedKind, cell: str) -> str | int | float | bool | date | None:
    """A manifest's cell as a value of its column's kind; ``None`` where it says nothing, such as NA.

    The scan gave the column this kind because every cell that says something is of it.
    """
    if kind == "text":
        return cell
    if kind == "boolean":
        return {"true": True, "false": False}.get(cell.casefold())
    try:
        if kind == "date":
            return date.fromisoformat(cell)
        value = int(cell) if kind == "integer" else float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def landmarks_in_source(landmarks: FloatArray, crop: KneeCrop) -> FloatArray:
    """[16, 2] in crop pixels → [16, 2] (x, y) in pixels of the source image as stored."""
    affine = crop.to_source.astype(np.float64)
    return np.asarray(landmarks.astype(np.float64) @ affine[:, :2].T + affine[:, 2], dtype=np.float32)


def _blank(ref: RadiographRef, provenance: Mapping[str, Any]) -> Row:
    row: Row = dict.fromkeys(column.name for column in COLUMNS)
    row.update(provenance)
    row.update(
        participant_id=ref.participant_id, visit=ref.visit, source_path=ref.source_path, kl_0m=ref.kl_0m
    )
    row.update(ref.extra)
    return row


def _flags(*groups: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(flag for group in groups for flag in group))


def _landmark_values(prefix: str, suffix: str, landmarks: FloatArray, crop: KneeCrop) -> Row:
    points = landmarks_in_source(landmarks, crop).astype(np.float64)
    values: Row = {}
    for name, (x, y) in zip(LANDMARKS, points.tolist(), strict=True):
        values[f"{prefix}_{name}_x"] = round(x, _PIXEL_DIGITS)
        values[f"{prefix}_{name}_y"] = round(y, _PIXEL_DIGITS)
    if crop.spacing_mm is not None:
        row_mm, column_mm = crop.spacing_mm
        medial, lateral = joint_space(points * (column_mm, row_mm))
        values[f"jsw_medial_mm{suffix}"] = _millimetres(medial.minimum)
        values[f"jsw_lateral_mm{suffix}"] = _millimetres(lateral.minimum)
    return values


def _millimetres(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _MM_DIGITS)


def _probability(value: float | None) -> float | None:
    return None if value is None else round(float(value), _PROBABILITY_DIGITS)
