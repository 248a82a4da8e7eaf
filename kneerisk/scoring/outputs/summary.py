"""What a run came to: counts, refusals by reason, the distribution of risk, alarms, and the exit code."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kneerisk.errors import ExitCode
from kneerisk.method.calibration import Calibration
from kneerisk.method.recalibration import Recalibration
from kneerisk.records import KL_GRADES
from kneerisk.scoring.outputs.alarms import Alarm, Looks
from kneerisk.scoring.outputs.rows import Row

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_TOP = 5


@dataclass(frozen=True, slots=True)
class TopRisk:
    """One of the highest risks."""

    participant_id: str | None
    side: str
    source_path: str
    kl_now: int
    kl_0m: int | None
    """The reader's grade, where the manifest brings one."""
    risk_12m: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a run."""

    out: str
    images: int
    """Files, however many rows of a manifest name each."""
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
    """Percentile → ``risk_12m``; empty without scored knees."""
    mean_risk: float | None
    top: tuple[TopRisk, ...]
    """Knees that a reader gave KL 4, which cannot rise, are not among them."""
    population: str
    """Whose rates ``risk_12m`` has, in words."""
    alarms: tuple[Alarm, ...] = ()
    """What puts the table in doubt; to be said before any number."""
    answered: tuple[str, ...] = ()
    """Codes of those that the knees of ``--calibration`` had raised too: ``risk_12m`` allows for them."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Files of the folders that were no images, by why."""
    images_scored: int = 0
    """Images with a scored knee."""
    images_refused: int = 0
    """Images without one, and nothing failed."""
    images_failed: int = 0
    """Images without one, of which something failed."""
    left: int = 0
    """Images of the scan that this run was not to score: other shards', or beyond ``--limit``."""
    reused: int = 0
    """Images whose rows an earlier run had made."""
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def seen(self) -> int:
        """Files that were looked at: scored + refused + failed + passed over + left to others."""
        return self.images + self.left + sum(self.skipped.values())

    @property
    def exit_code(self) -> ExitCode:
        """0, 3 or 4: see the interface's exit codes."""
        if self.ok == 0:
            return ExitCode.NOTHING_SCORABLE
        return ExitCode.OK if self.ok == self.rows else ExitCode.PARTIAL

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {**asdict(self), "seen": self.seen, "exit_code": int(self.exit_code)}


class Tally:
    """Counts rows as they pass into the table."""

    def __init__(self) -> None:
        self._status: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._flags: Counter[str] = Counter()
        self._images: set[int] = set()
        """Hashes of the files' paths: a film of two knees may have a row of the manifest for each."""
        self._scored: set[int] = set()
        self._failed: set[int] = set()
        self._risks: list[float] = []
        self._looks = Looks()
        self._top: list[tuple[float, int, TopRisk]] = []

    def add(self, row: Row) -> None:
        """Count one row."""
        film = hash(row["source_path"])
        self._images.add(film)
        self._status[row["status"]] += 1
        self._flags.update(row["qc_flags"])
        if row["status"] == "failed":
            self._failed.add(film)
        if row["status"] != "ok":
            self._reasons[row["reason"]] += 1
            return
        self._scored.add(film)
        self._looks.add(row)
        risk = row["risk_12m"]
        self._risks.append(risk)
        if row["kl_0m"] == KL_GRADES[-1]:
            return
        entry = TopRisk(
            row["participant_id"], row["side"], row["source_path"], row["kl_now"], row["kl_0m"], risk
        )
        heapq.heappush(self._top, (risk, -len(self._risks), entry))
        if len(self._top) > _TOP:
            heapq.heappop(self._top)

    def summary(
        self, out: str, calibration: Calibration, recalibration: Recalibration | None = None, **rest: Any
    ) -> Summary:
        """The counts so far, with what the run knows beside them."""
        alarms = self._looks.alarms(calibration)
        population = calibration.population
        seen: tuple[str, ...] = ()
        if recalibration is not None:
            population, seen = recalibration.population, recalibration.alarms
        risks = np.asarray(self._risks)
        quantiles = (
            {}
            if not len(risks)
            else dict(zip(QUANTILES, np.percentile(risks, QUANTILES).tolist(), strict=True))
        )
        return Summary(
            out=out,
            images=len(self._images),
            images_scored=len(self._scored),
            images_refused=len(self._images - self._scored - self._failed),
            images_failed=len(self._failed - self._scored),
            rows=self._status.total(),
            ok=self._status["ok"],
            refused=self._status["refused"],
            failed=self._status["failed"],
            reasons=dict(self._reasons.most_common()),
            qc_flags=dict(self._flags.most_common()),
            kl_now={grade: n for grade, n in enumerate(self._looks.grades) if n},
            risk_quantiles=quantiles,
            mean_risk=float(risks.mean()) if len(risks) else None,
            top=tuple(entry for _, _, entry in sorted(self._top, reverse=True, key=lambda e: e[:2])),
            population=population,
            alarms=alarms,
            answered=tuple(alarm.code for alarm in alarms if alarm.code in seen),
            **rest,
        )
