"""For the trial designer: whom to screen and enrol, how many, at what cost, and what the rates rest on.

On a SIMULATED cohort whose true risks are known (examples/simulated_study.py).  The same by commands:

    kneerisk enrich scores.parquet --labels labels.csv --one-knee-per-participant --top-fraction 0.25
        --effect 0.4 --power 0.9 --cost-screen 250 --cost-enrolled 15000 --out selected.csv

Usage: python examples/05_enrich_a_trial.py [FOLDER] [PARTICIPANTS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
from simulated_study import FOLDER, PARTICIPANTS, simulated_study

from kneerisk.errors import KneeriskError
from kneerisk.study.enrichment.enrich import Enrichment, enrich
from kneerisk.study.enrichment.sample_size import Trial
from kneerisk.study.enrichment.screening import Point
from kneerisk.study.enrichment.selection import Rule
from kneerisk.study.enrichment.settings import EnrichSettings

TRIAL = Trial(effect=0.4, power=0.9, dropout=0.1, cost_screen=250, cost_enrolled=15_000)
QUARTER = Rule("top-fraction", 0.25)


def show(name: str, point: Point) -> None:
    """A trial in one line."""
    rate, arm, cost = point.event_rate, point.per_arm, point.cost
    screened = "nobody" if point.threshold is None else f"{point.screened.value:.0f}"
    print(f"{name}: event rate {rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%}), {arm.value:.0f} an arm, "
          f"{point.enrolled.value:.0f} to enrol, {screened} to screen, cost {cost.value:,.0f}")  # fmt: skip


def main(folder: Path = FOLDER, participants: int = PARTICIPANTS) -> None:
    """Ask without labels, ask with them, and hold the answer against the truth."""
    study = simulated_study(folder, participants)

    # Without readers' grades the rates would be the risks' own; the run's alarm says that they may not hold.
    try:
        enrich(EnrichSettings(study.scores, trial=TRIAL, rule=QUARTER, one_knee=True))
    except KneeriskError as refused:
        print("refused:", refused, end="\n\n")

    # With them the rates are observed.  One knee a person: the one at the higher risk.
    selected = folder / "selected.parquet"
    found: Enrichment = enrich(
        EnrichSettings(
            study.scores,
            labels=study.labels,
            trial=TRIAL,
            rule=QUARTER,
            one_knee=True,
            out=selected,
            overwrite=True,
        )
    )
    assert found.chosen is not None
    for note in found.notes:
        print("note:", note)
    show("no enrichment  ", found.nobody_enriched)
    show("highest quarter", found.chosen)
    print(f"cheaper where enrolling one costs more than {found.break_even:.1f} times screening one")

    # What nobody could know: the true mean risk of those selected.
    truth = pl.read_parquet(selected).join(pl.read_parquet(study.truth), on=["participant_id", "side"])
    true = truth["true_risk"].mean()
    rate = found.chosen.event_rate
    assert isinstance(true, float) and rate.low is not None and rate.high is not None
    inside = "within" if rate.low <= true <= rate.high else "outside"
    print(f"the truth: {true:.1%} of those selected will rise on average, {inside} the interval (SIMULATED)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
