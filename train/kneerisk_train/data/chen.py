"""Chen's knee radiographs with KL grades (Mendeley Data, doi 10.17632/56rmx5bjcr.1, CC BY 4.0) as arrays.

The folder holds ``knees.csv`` (one row a crop: file, split, participant_id, side, kl_grade, inverted,
mm_per_px_x, mm_per_px_y), ``landmarks.csv`` (KNEEL's 16 points, arXiv 1907.12237, in crop pixels) and the
crops themselves.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kneerisk.errors import UsageError
from kneerisk.records import LANDMARKS
from kneerisk_train.data.knees import Knees

CROP_SIZE = 224


@dataclass(frozen=True)
class ChenKnees(Knees):
    """Crops of one split in the right-knee frame, reversed grey scales undone, and their files."""

    file: list[str]


def load(folder: Path, split: str) -> ChenKnees:
    """Read one split (``train`` or ``val``); left knees are mirrored, reversed grey scales are undone.

    Raises:
        UsageError: where a table or a crop is missing.
    """
    rows = [row for row in _table(folder / "knees.csv") if row["split"] == split]
    if not rows:
        raise UsageError(f"{folder / 'knees.csv'} has no rows of split {split!r}")
    marked = {row["file"]: row for row in _table(folder / "landmarks.csv")}
    pixels = np.empty((len(rows), CROP_SIZE, CROP_SIZE), np.uint8)
    landmarks = np.full((len(rows), len(LANDMARKS), 2), np.nan, np.float32)
    for index, row in enumerate(rows):
        crop = cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE)
        if crop is None or crop.shape != (CROP_SIZE, CROP_SIZE):
            raise UsageError(f"{folder / row['file']} is missing or not {CROP_SIZE} by {CROP_SIZE} pixels")
        if row["inverted"] == "true":
            crop = 255 - crop
        if row["file"] in marked:
            mark = marked[row["file"]]
            landmarks[index] = [(float(mark[f"x_{name}"]), float(mark[f"y_{name}"])) for name in LANDMARKS]
        if row["side"] == "L":
            crop = crop[:, ::-1]
            landmarks[index, :, 0] = CROP_SIZE - 1 - landmarks[index, :, 0]
        pixels[index] = crop
    spacing = [[float(row[f"mm_per_px_{axis}"] or "nan") for axis in "xy"] for row in rows]
    return ChenKnees(
        file=[row["file"] for row in rows],
        participant=np.array([row["participant_id"] for row in rows]),
        side=np.array([row["side"] for row in rows]),
        month=np.zeros(len(rows), np.int32),
        pixels=pixels,
        grade=np.array([int(row["kl_grade"]) for row in rows]),
        landmarks=landmarks,
        spacing=np.array(spacing, np.float32),
    )


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is missing: give the folder that holds Chen's crops and their tables"
        ) from None
