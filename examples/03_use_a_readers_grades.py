"""Score a manifest that brings a reader's grades, and compare the image's grade with the reader's.

Usage: python examples/03_use_a_readers_grades.py [MANIFEST.csv] [TABLE.parquet]

A reader's current grade (``kl_0m``) is worth having: given it, ``risk_12m`` is the probability that the grade
at 12 months is higher than that one.  Other columns are carried through (here: ``origin``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

import kneerisk

MANIFEST = Path(__file__).parent / "cohort.csv"


def main(manifest: Path = MANIFEST, table: Path = Path("risks-given-grades.parquet")) -> None:
    """Score, and show risk by the reader's grade, real and simulated knees apart."""
    knees = kneerisk.score(manifest, table, overwrite=True).filter(pl.col("status") == "ok")
    by_grade = knees.group_by("origin", "kl_0m").agg(
        pl.len().alias("knees"),
        pl.col("kl_now").mean().alias("mean_kl_now"),
        pl.col("risk_12m").mean(),
        pl.col("risk_12m_image").mean(),
    )
    print(by_grade.sort("origin", "kl_0m"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
