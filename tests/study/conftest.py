"""Small score tables in the interface's columns, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

TYPES = {
    "participant_id": pl.String, "visit": pl.String, "side": pl.String, "source_path": pl.String,
    "image_index": pl.Int64, "status": pl.String, "qc_flags": pl.List(pl.String), "kl_0m": pl.Int64,
    "kl_now": pl.Int64, **{f"kl_now_p{g}": pl.Float64 for g in range(5)}, "at_ceiling": pl.Boolean,
    "risk_12m": pl.Float64, "risk_12m_basis": pl.String, "risk_12m_lo": pl.Float64,
    "risk_12m_hi": pl.Float64, "risk_12m_image": pl.Float64, "risk_12m_sum": pl.Float64, "stack": pl.String,
}  # fmt: skip


def row(participant: str | None, side: str, **cells: Any) -> dict[str, Any]:
    """One scored knee; ``p`` gives its posterior of the grade now."""
    p = cells.pop("p", (0.5, 0.2, 0.15, 0.1, 0.05))
    grade = max(range(5), key=lambda g: p[g])
    return {
        "participant_id": participant,
        "visit": None,
        "side": side,
        "source_path": f"{participant}.dcm",
        "image_index": 0,
        "status": "ok",
        "qc_flags": [],
        "kl_0m": None,
        "kl_now": grade,
        **{f"kl_now_p{g}": p[g] for g in range(5)},
        "at_ceiling": grade == 4,
        "risk_12m": 0.1,
        "risk_12m_basis": "image",
        "risk_12m_lo": None,
        "risk_12m_hi": None,
        "risk_12m_image": 0.1,
        "risk_12m_sum": 0.3,
        "stack": "compact-0.3.0",
        **cells,
    }


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Rows as a Parquet table with the documents that ``score`` writes."""
    listed = list(rows)
    extra = [name for name in listed[0] if name not in TYPES]
    frame = pl.DataFrame(listed, schema_overrides=TYPES).select(*TYPES, *extra)
    documents = {
        "data_dictionary": {
            name: {"kind": "real", "unit": "", "meaning": name, "null": ""} for name in frame.columns
        },
        "run": {"stack": {"name": "compact-0.3.0"}},
        "calibration": {"population": "simulated knees"},
    }
    frame.write_parquet(path, metadata={f"kneerisk.{k}": json.dumps(v) for k, v in documents.items()})
    return path


@pytest.fixture
def knee() -> Callable[..., dict[str, Any]]:
    return row


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Rows → the path of a score table."""
    return lambda *rows, name="risks.parquet": write(tmp_path / name, rows)
