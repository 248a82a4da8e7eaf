"""Chen's val knees: as their tables have them, and as ``kneerisk prepare`` left them for training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
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


WITH_METAL = (("9086204", "R"), ("9235666", "R"), ("9375300", "L"))
"""Val knees with a staple or screws, seen by eye among those that were flagged: metal that is there."""


def without_metal(knees: Knees) -> Knees:
    """The knees but for :data:`WITH_METAL`, which composites would draw again and again."""
    known = [pair not in WITH_METAL for pair in zip(knees.participant, knees.side, strict=True)]
    return knees.take(np.array(known))
