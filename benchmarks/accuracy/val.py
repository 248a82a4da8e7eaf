"""Chen's val knees: as their tables have them, and as ``kneerisk prepare`` left them for training."""

from __future__ import annotations

import csv
from pathlib import Path

from kneerisk_train.data.dataset import PreparedCohort
from kneerisk_train.data.knees import Knees


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of one of Chen's tables, by column."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def val_rows(chen: Path) -> list[dict[str, str]]:
    """Those of ``knees.csv`` in Chen's folder that are val's."""
    return [row for row in read_table(chen / "knees.csv") if row["split"] == "val"]


def val_knees(prepared: Path) -> Knees:
    """Crops and labels of the val knees of ``kneerisk prepare folder CHEN/knees.csv --cropped``, in memory.

    Raises:
        UsageError: the folder holds no prepared cohort.
    """
    with PreparedCohort(prepared) as cohort:
        return cohort.knees((cohort.manifest["split"] == "val").arg_true().to_numpy())
