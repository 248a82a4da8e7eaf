"""The image's landmarks against marked ones, in millimetres (KNEEL's measures, arXiv 1907.12237)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS
from kneerisk.study.labels import month_of_visit
from kneerisk.study.readings.label_table import KNEE, read_text, refuse_twice
from kneerisk.study.results import LandmarkError

if TYPE_CHECKING:
    import polars as pl

WITHIN_MM = (1, 1.5, 2, 2.5)
OUTLIER_MM = 10
_NAMES = tuple(f"lm_{point}_{axis}" for point in LANDMARKS for axis in "xy")


def landmark_error(frame: pl.DataFrame, path: Path) -> LandmarkError:
    """Measure ``lm_now_…`` against a table of marked landmarks.

    Args:
        frame: the score table, landmarks included.
        path: a table with ``participant_id``, ``side``, where visits differ ``visit_month``, and the points
            as ``lm_T0_x`` … ``lm_F6_y``, in pixels of the source image as stored.

    Raises:
        UsageError: the table has other columns, stands for a knee twice, or no knee is in both with its
            spacing known.
    """
    import polars as pl

    text = read_text(path)
    if missing := [name for name in (*KNEE, *_NAMES) if name not in text.columns]:
        raise UsageError(f"{path} is no table of landmarks: it lacks {', '.join(missing[:4])}")
    marked = text.drop_nulls(_NAMES).with_columns(pl.col(_NAMES).cast(pl.Float64))
    keys = list(KNEE)
    rows = frame.filter(pl.col("status") == "ok")
    if "visit_month" in marked.columns:
        keys.append("visit_month")
        marked = marked.with_columns(pl.col("visit_month").cast(pl.Float64).cast(pl.Int64))
        known = set(marked["visit_month"].to_list())
        months = [month_of_visit(visit, known) or 0 for visit in rows["visit"]]
        rows = rows.with_columns(visit_month=pl.Series(months, dtype=pl.Int64))
    refuse_twice(marked, tuple(keys), f"{path.name}: knees")
    both = rows.join(marked.select(*keys, *_NAMES), on=keys).drop_nulls("px_spacing_mm")
    if both.is_empty():
        raise UsageError(f"no scored knee whose spacing is known has landmarks in {path.name}")
    found = both.select(name.replace("lm_", "lm_now_") for name in _NAMES).to_numpy()
    apart = (found - both.select(_NAMES).to_numpy()).reshape(len(both), len(LANDMARKS), 2)
    mm = np.linalg.norm(apart, axis=-1) * both["px_spacing_mm"].to_numpy()[:, None]
    return LandmarkError(
        knees=len(both),
        points=int(mm.size),
        mean_mm=float(mm.mean()),
        median_mm=float(np.median(mm)),
        within_mm={str(limit): float((mm <= limit).mean()) for limit in WITHIN_MM},
        outliers=float((mm >= OUTLIER_MM).mean()),
    )
