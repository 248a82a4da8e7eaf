"""Read a scored table with Polars: refusals first, then the participants at the highest risk.

Usage: python examples/02_read_the_table.py [TABLE.parquet]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl


def main(table: Path = Path("risks.parquet")) -> None:
    """Show what was not scored and why, the participants by risk, and what a column means."""
    rows = pl.read_parquet(table)

    # Nothing is dropped in silence: what has no score has a row, a reason and a message.
    print(rows.filter(pl.col("status") != "ok").select("source_path", "status", "reason", "message"))

    # Two knees of one person are not independent: a person's figure is that of the knee at the higher risk.
    knees = rows.filter(pl.col("status") == "ok")
    people = knees.group_by("participant_id").agg(
        pl.len().alias("knees"),
        pl.col("kl_now").max().alias("worst_kl_now"),
        pl.col("risk_12m").max().alias("highest_risk"),
    )
    print(people.sort("highest_risk", descending=True))

    # The file says what its columns mean, and whose rates the risk was calibrated to.
    metadata = pl.read_parquet_metadata(table)
    dictionary = json.loads(metadata["kneerisk.data_dictionary"])
    print("risk_12m:", dictionary["risk_12m"]["meaning"])
    print("population:", json.loads(metadata["kneerisk.calibration"])["population"])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
