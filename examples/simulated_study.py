"""A simulated study with known truth: scores, readers' grades and, beside them, what nobody could know.

No radiograph is drawn and no network runs, so that examples 04 to 06 take seconds: people and their knees
come from ``kneerisk simulate``'s model of progression, and the scores are its own risks, made wrong on
purpose, as they are where a cohort is unlike the one that a stack was calibrated to.  All of it is SIMULATED.

Usage: python examples/simulated_study.py [FOLDER] [PARTICIPANTS]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kneerisk.simulate.participants import KneeVisit, Participant, draw_participant

FOLDER = Path("simulated-study")
PARTICIPANTS = 2000
TOO_HIGH, TOO_FLAT = 1.1, 0.85
"""The scores' logit is TOO_HIGH + TOO_FLAT x the true one: right order, wrong numbers."""
ALARM = {
    "code": "unlike-the-population",
    "message": "SIMULATED alarm: the mean risk is far above the rate of the population it was calibrated to",
}


@dataclass(frozen=True)
class Study:
    """Where a study's tables lie."""

    scores: Path
    """As ``kneerisk score`` would write them: one row a knee at baseline."""
    labels: Path
    """Grades at 0, 12 and 24 months by a reader who is always right; those who were lost have none."""
    truth: Path
    """``true_risk``: the exact probability that the knee's grade rises within 12 months."""


def simulated_study(folder: Path = FOLDER, participants: int = PARTICIPANTS, seed: int = 1) -> Study:
    """Write a study, or take the one that is there."""
    study = Study(folder / "scores.parquet", folder / "labels.csv", folder / "truth.parquet")
    if study.truth.exists():
        return study
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    scores, labels, truth = [], [], []
    for number in range(1, participants + 1):
        person = draw_participant(seed, number, (0, 12, 24), dropout=0.06)
        for place, knee in enumerate(person.visits[0].knees):
            key = {"participant_id": f"SIM{number:05d}", "side": knee.side}
            scores.append({**key, **score(person, knee, rng)})
            truth.append({**key, "true_risk": knee.risk_12m_seen})
            labels += [
                {**key, "visit_month": visit.month, "kl": visit.knees[place].grade}
                for visit in person.visits
                if visit.attended
            ]
    documents = {
        "simulated": True,
        "run": {"alarms": [ALARM], "fingerprint": {"stack": "simulated scores, no networks"}},
        "calibration": {"population": "another population than this one (simulated)"},
        "data_dictionary": {
            "risk_12m": {"unit": "probability", "meaning": "SIMULATED risk", "null": "never"}
        },
    }
    metadata = {f"kneerisk.{name}": json.dumps(document) for name, document in documents.items()}
    pl.DataFrame(scores).write_parquet(study.scores, metadata=metadata)
    pl.DataFrame(labels).write_csv(study.labels)
    pl.DataFrame(truth).write_parquet(study.truth)
    return study


def score(person: Participant, knee: KneeVisit, rng: np.random.Generator) -> dict[str, Any]:
    """The row that a knee would have: a grader's doubt about its severity, and a risk that is off."""
    seen = knee.severity + 0.3 * rng.normal()
    weight = np.exp(-((np.arange(5) + 0.5 - seen) ** 2) / (2 * 0.45**2))
    posterior = weight / weight.sum()
    true = min(max(knee.risk_12m_seen, 1e-4), 1 - 1e-4)
    risk = 1 / (1 + np.exp(-(TOO_HIGH + TOO_FLAT * np.log(true / (1 - true)))))
    risk = 0.0 if knee.grade == 4 else float(risk)
    return {
        "visit": "0m",
        "source_path": f"SIMULATED/{person.number:05d}.dcm",
        "status": "ok",
        "kl_0m": knee.grade,
        "kl_now": int(posterior.argmax()),
        **{f"kl_now_p{grade}": float(p) for grade, p in enumerate(posterior)},
        "risk_12m": risk,
        "risk_12m_basis": "grade",
        "site": person.site,
        "sex": "F" if person.female else "M",
        "age": person.age,
        "bmi": person.bmi,
    }


if __name__ == "__main__":
    print(simulated_study(*([Path(sys.argv[1])] if sys.argv[1:] else []), *map(int, sys.argv[2:3])))
