"""Small score tables in the interface's columns, made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
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


@dataclass(frozen=True)
class Simulated:
    """A score table and its labels on disk, and the true risk of each knee, in the table's order."""

    scores: Path
    labels: Path
    true: npt.NDArray[np.float64]


def simulate(
    folder: Path, participants: int = 1500, seed: int = 0, *, slope: float = 1.0, shift: float = 0.0
) -> Simulated:
    """Participants with two knees whose risk of a rise is known; the table's is off by slope and shift."""
    rng = np.random.default_rng(seed)
    n = 2 * participants
    owner = np.repeat(np.arange(participants), 2)
    grade = rng.choice(5, n, p=[0.39, 0.18, 0.26, 0.13, 0.04])
    logit = -2.4 + 0.25 * grade + rng.normal(0, 0.9, n)
    true = np.where(grade == 4, 0.0, 1 / (1 + np.exp(-logit)))
    told = np.where(grade == 4, 0.0, 1 / (1 + np.exp(-(shift + slope * logit))))
    rises = rng.random(n) < true
    read = np.clip(grade + rng.choice([-1, 0, 1, 2], n, p=[0.1, 0.75, 0.1, 0.05]), 0, 4)
    posterior = np.full((n, 5), 0.05)
    posterior[np.arange(n), read] = 0.8
    site = rng.choice(["A", "B"], participants)[owner]
    rows = [
        row(
            f"P{owner[i]:05d}",
            "LR"[i % 2],
            p=posterior[i],
            kl_0m=int(grade[i]),
            risk_12m=round(float(told[i]), 6),
            risk_12m_basis="grade",
            qc_flags=["dark"] if i % 50 == 0 else [],
            site=str(site[i]),
        )
        for i in range(n)
    ]
    folder.mkdir(exist_ok=True)
    labels = pl.DataFrame(
        {
            "participant_id": [f"P{k:05d}" for k in owner],
            "side": ["LR"[i % 2] for i in range(n)],
            "kl_0m": grade,
            "kl_12m": grade + rises,
            "age": rng.normal(61, 9, participants)[owner].round(1),
            "sex": rng.choice(["F", "M"], participants)[owner],
        }
    )
    labels.write_csv(folder / "labels.csv")
    return Simulated(write(folder / "risks.parquet", rows), folder / "labels.csv", true)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """1,500 participants whose table tells the true risks."""
    return simulate(tmp_path_factory.mktemp("simulated"))


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Simulated]:
    """Further simulated cohorts, by name."""
    return lambda name, **settings: simulate(tmp_path / name, **settings)
