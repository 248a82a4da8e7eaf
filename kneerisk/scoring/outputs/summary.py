"""What a run came to: counts, refusals by reason, the distribution of risk, alarms, and the exit code."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kneerisk.errors import ExitCode
from kneerisk.scoring.outputs.rows import Row

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_TOP = 5
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class TopRisk:
    """One of the highest risks."""

    participant_id: str | None
    side: str
    source_path: str
    kl_now: int
    risk_12m_calibrated: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a run."""

    out: str
    images: int
    rows: int
    ok: int
    refused: int
    failed: int
    reasons: Mapping[str, int]
    """Refused and failed rows by reason, the most frequent first."""
    qc_flags: Mapping[str, int]
    kl_now: Mapping[int, int]
    """Scored knees by the image's grade."""
    risk_quantiles: Mapping[int, float]
    """Percentile → calibrated 12-month risk; empty without scored knees."""
    mean_risk: float | None
    top: tuple[TopRisk, ...]
    population: str
    alarms: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Files of the folders that were no images, by why."""
    reused: int = 0
    """Images whose rows an earlier run had made."""
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> ExitCode:
        """0, 3 or 4: see the interface's exit codes."""
        if self.ok == 0:
            return ExitCode.NOTHING_SCORABLE
        return ExitCode.OK if self.ok == self.rows else ExitCode.PARTIAL

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {**asdict(self), "exit_code": int(self.exit_code)}


class Tally:
    """Counts rows as they pass into the table."""

    def __init__(self) -> None:
        self._status: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._grades: Counter[int] = Counter()
        self._images: set[int] = set()
        self._risks: list[float] = []
        self._raw: list[float] = []
        self._inputs: set[str] = set()
        self._top: list[tuple[float, int, TopRisk]] = []

    def add(self, row: Row) -> None:
        """Count one row."""
        self._images.add(row["image_index"])
        self._status[row["status"]] += 1
        self._flags.update(row["qc_flags"])
        if row["status"] != "ok":
            self._reasons[row["reason"]] += 1
            return
        self._grades[row["kl_now"]] += 1
        risk = row["risk_12m_calibrated"]
        self._risks.append(risk)
        self._raw.append(row["risk_12m"])
        self._inputs.add(f"{row['input_sha256']}{row['side']}")
        entry = TopRisk(row["participant_id"], row["side"], row["source_path"], row["kl_now"], risk)
        heapq.heappush(self._top, (risk, -len(self._risks), entry))
        if len(self._top) > _TOP:
            heapq.heappop(self._top)

    def summary(self, out: str, population: str, **rest: Any) -> Summary:
        """The counts so far, with what the run knows beside them."""
        risks = np.asarray(self._risks)
        quantiles = (
            {}
            if not len(risks)
            else dict(zip(QUANTILES, np.percentile(risks, QUANTILES).tolist(), strict=True))
        )
        return Summary(
            out=out,
            images=len(self._images),
            rows=self._status.total(),
            ok=self._status["ok"],
            refused=self._status["refused"],
            failed=self._status["failed"],
            reasons=dict(self._reasons.most_common()),
            qc_flags=dict(self._flags.most_common()),
            kl_now={grade: self._grades[grade] for grade in sorted(self._grades)},
            risk_quantiles=quantiles,
            mean_risk=float(risks.mean()) if len(risks) else None,
            top=tuple(entry for _, _, entry in sorted(self._top, reverse=True, key=lambda e: e[:2])),
            population=population,
            alarms=self._alarms(),
            **rest,
        )

    def _alarms(self) -> tuple[str, ...]:
        if len(self._inputs) > 2 and max(self._raw) - min(self._raw) < _SAME:
            return (
                f"all {len(self._inputs)} different knees got the same risk: the networks do not see these "
                "images. Look at a few with --previews; do not use the table",
            )
        return ()
