"""For the epidemiologist: whether the risk ranks, whether 0.1 is one in ten here, and what mends it.

On a SIMULATED cohort whose true risks are known (examples/simulated_study.py), so that every answer can be
held against the truth.  The same by commands:

    kneerisk evaluate scores.parquet --labels labels.csv
    kneerisk calibrate scores.parquet --labels labels.csv --out calibration.json --population "our cohort"
    kneerisk derive scores.parquet --calibration calibration.json --out ours.parquet

Usage: python examples/04_evaluate_and_recalibrate.py [FOLDER] [PARTICIPANTS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from simulated_study import FOLDER, PARTICIPANTS, simulated_study

from kneerisk.study.derive import derive
from kneerisk.study.evaluate import evaluate
from kneerisk.study.recalibrate import calibrate
from kneerisk.study.results import Evaluation


def show(title: str, found: Evaluation) -> None:
    """The three figures that matter first."""
    model = found.overall.scores["model"]
    slope, large = model.calibration_slope.value, model.calibration_intercept.value
    print(f"{title}: AUC {model.auc.value:.3f} ({model.auc.low:.3f} to {model.auc.high:.3f}), "
          f"calibration slope {slope:.2f}, in the large {large:+.2f}")  # fmt: skip


def main(folder: Path = FOLDER, participants: int = PARTICIPANTS) -> None:
    """Evaluate, recalibrate, and evaluate again; then hold it all against the truth."""
    study = simulated_study(folder, participants)
    ours = folder / "ours.parquet"

    # How well do the risks rank, and do they mean what they say?  Participants are resampled, not knees.
    before = evaluate(study.scores, study.labels, bootstraps=200)
    show("as scored     ", before)
    for warning in before.warnings:
        print("  warning:", warning)

    # The order is good and the numbers are not: intercept and slope of one's own cohort mend them.
    done = calibrate(
        study.scores, study.labels, folder / "calibration.json", population="our cohort", overwrite=True
    )
    derive(study.scores, ours, calibrations=[Path(done.out)], overwrite=True)
    after = evaluate(ours, study.labels, column="risk_12m", bootstraps=200)
    show("recalibrated  ", after)

    # What nobody could know: how near the recalibrated risks are to the true ones.
    truth = pl.read_parquet(study.truth).join(pl.read_parquet(ours), on=["participant_id", "side"])
    at_risk = truth.filter(pl.col("kl_0m") < 4)
    off = (at_risk["risk_12m"] - at_risk["true_risk"]).abs().mean()
    print(f"the truth      : mean true risk {at_risk['true_risk'].mean():.3f}, mean recalibrated risk "
          f"{at_risk['risk_12m'].mean():.3f}; they are {off:.3f} apart on average (SIMULATED)")  # fmt: skip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
