"""For the developer of a stack: is another risk better than this one, and a page to show it to others.

On a SIMULATED cohort whose true risks are known (examples/simulated_study.py): the true risk, blurred, stands
for the stack that is to be compared.  The same by commands:

    kneerisk evaluate compared.parquet --labels labels.csv --column risk_12m --out evaluation.json
    kneerisk enrich compared.parquet --labels labels.csv --top-fraction 0.25 --json > enrichment.json
    kneerisk report compared.parquet --evaluation evaluation.json --enrichment enrichment.json

Usage: python examples/06_report_on_a_stack.py [FOLDER] [PARTICIPANTS]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
from simulated_study import FOLDER, PARTICIPANTS, simulated_study

from kneerisk.study.enrichment.enrich import enrich
from kneerisk.study.enrichment.selection import Rule
from kneerisk.study.enrichment.settings import EnrichSettings
from kneerisk.study.evaluate import evaluate
from kneerisk.study.report.write import ReportSettings, write_report


def main(folder: Path = FOLDER, participants: int = PARTICIPANTS) -> None:
    """Compare two risks on the same knees, and write a page about the first."""
    study = simulated_study(folder, participants)

    # The other stack's risk goes beside the first as a column of its own.
    table = pl.read_parquet(study.scores)
    truth = table.join(pl.read_parquet(study.truth), on=["participant_id", "side"], maintain_order="left")
    noise = np.random.default_rng(0).normal(0, 1.2, len(truth))
    logit = (
        truth["true_risk"].clip(1e-4, 1 - 1e-4) / (1 - truth["true_risk"].clip(1e-4, 1 - 1e-4))
    ).log() + noise
    metadata = {k: v for k, v in pl.read_parquet_metadata(study.scores).items() if k.startswith("kneerisk.")}
    compared = folder / "compared.parquet"
    blurred = (1 / (1 + (-logit).exp())).alias("other_stack")
    table.with_columns(blurred).write_parquet(compared, metadata=metadata)

    found = {}
    for column in ("risk_12m", "other_stack"):
        found[column] = evaluate(compared, study.labels, column=column, bootstraps=200)
        auc = found[column].overall.scores["model"].auc
        print(f"{column:12}: AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})")
        for difference in found[column].overall.differences:
            more = difference.auc
            print(f"  above {difference.baseline}: {more.value:+.3f} ({more.low:+.3f} to {more.high:+.3f})")
    grades = found["risk_12m"].grades
    assert grades is not None
    print(f"grades       : accuracy {grades.accuracy.value:.3f}, kappa {grades.quadratic_kappa.value:.3f}")

    # One page for others: evaluation and enrichment are handed over as the JSON that the commands write.
    rule = Rule("top-fraction", 0.25)
    trial = enrich(EnrichSettings(compared, labels=study.labels, rule=rule, one_knee=True, bootstrap=200))
    (folder / "evaluation.json").write_text(json.dumps(found["risk_12m"].to_json()), "utf-8")
    (folder / "enrichment.json").write_text(json.dumps(trial.to_json()), "utf-8")
    page = write_report(
        ReportSettings(
            compared,
            folder / "report.html",
            title="A simulated cohort",
            evaluation=folder / "evaluation.json",
            enrichment=folder / "enrichment.json",
            files=folder / "report-files",
            overwrite=True,
        )
    )
    print(f"{page.out}: open it in a browser; {len(page.files)} plots and tables beside it")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
