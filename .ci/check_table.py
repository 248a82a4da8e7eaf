"""Check that a table scored from examples/cohort holds every knee of examples/cohort.csv and both refusals.

Usage: python .ci/check_table.py TABLE.parquet
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import polars as pl

COHORT = Path(__file__).parents[1] / "examples" / "cohort.csv"
NO_KNEES = {"SIM0004/cut-off.dcm", "SIM0005/hand.dcm"}


def main(table: Path) -> None:
    """Compare, and end with a line of what was seen; a difference ends with status 1."""
    rows = pl.read_parquet(table)
    with COHORT.open(newline="") as file:
        knees = {(row["path"].removeprefix("cohort/"), row["side"]) for row in csv.DictReader(file)}
    scored = rows.filter(pl.col("status") == "ok")
    found = set(scored.select("source_path", "side").iter_rows())
    others = dict(rows.filter(pl.col("status") != "ok").select("source_path", "reason").iter_rows())
    problems = [f"no score for {path} {side}" for path, side in sorted(knees - found)]
    problems += [f"a score for {path} {side}, which is no knee" for path, side in sorted(found - knees)]
    problems += [f"not scored: {others}, expected: {NO_KNEES}"] if set(others) != NO_KNEES else []
    problems += [f"no reason for {path}" for path, reason in others.items() if not reason]
    risks = scored["risk_12m_calibrated"]
    problems += [] if risks.is_between(0, 1).all() else ["a risk lies outside 0 to 1"]
    problems += [] if risks.n_unique() > len(risks) // 2 else ["most risks are the same"]
    if problems:
        raise SystemExit("\n".join(problems))
    print(f"examples/cohort: {len(found)} knees scored, {len(others)} files without a score, as expected")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
