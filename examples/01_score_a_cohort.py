"""Score a folder of radiographs from Python: the same table as ``kneerisk score``.

Usage: python examples/01_score_a_cohort.py [FOLDER] [TABLE.parquet]
"""

from __future__ import annotations

import sys
from pathlib import Path

import kneerisk

COHORT = Path(__file__).parent / "cohort"


def main(folder: Path = COHORT, table: Path = Path("risks.parquet")) -> None:
    """Score, write the table, and show a few of its columns."""
    # PNG files carry no PatientID, so the participant is the folder that a radiograph lies in.
    rows = kneerisk.score(folder, table, id_from="folder", overwrite=True)
    print(rows.select("participant_id", "side", "status", "kl_now", "risk_12m", "reason"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
