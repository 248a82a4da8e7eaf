"""The outputs of ``prepare``: written aside, flushed, renamed; the summary last, as the mark of the end.

manifest.parquet   a row for each knee and visit
knees.h5           crops uint8 [N, S, S], one chunk each, gzip; landmarks float32 [N, 16, 2] (x, y) in crop
                   pixels, NaN where unknown; spacing_mm float32 [N, 2] (x, y) of the crop, NaN where unknown;
                   to_source float32 [N, 2, 3], crop pixel → source pixel; pairs/{current, future, months,
                   horizon} [P], rows of visits of one knee.  Row n is the manifest's row n.
summary.json       what came in, and where all of it went
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kneerisk_engines.files import put_in_place

from kneerisk.errors import KneeriskError
from kneerisk.records import LANDMARKS
from kneerisk_train.prepare.assemble import Chosen
from kneerisk_train.prepare.crops import COMPRESSION
from kneerisk_train.prepare.release import Release
from kneerisk_train.prepare.releases.landmarks import Landmarks
from kneerisk_train.prepare.staging import Staging

if TYPE_CHECKING:
    import polars as pl

MANIFEST, KNEES, SUMMARY = "manifest.parquet", "knees.h5", "summary.json"
OUTPUTS = (MANIFEST, KNEES, SUMMARY)
FORMAT = 1

_PART = ".part"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Whatever stops the writing: no part of a file is left, and a full disk is said to be one."""
    try:
        yield
    except OSError as error:
        text = str(error)
        full = error.errno in _FULL or "No space left" in text or "File too large" in text
        why = "the disk is full" if full else error.strerror or text
        raise KneeriskError(
            f"{out} cannot be written: {why}; finished radiographs are kept in it: make room and run the "
            "same command again"
        ) from error
    finally:
        for name in OUTPUTS:
            (out / (name + _PART)).unlink(missing_ok=True)


def write_outputs(
    out: Path,
    release: Release,
    chosen: Chosen,
    staging: Staging,
    landmarks: Landmarks,
    provenance: Mapping[str, Any],
    size: int,
) -> dict[str, Any]:
    """Write all three files and return the summary.

    Args:
        out: the output folder.
        release: where crops, readings and backgrounds come from.
        chosen: which crop is which row.
        staging: the crops' bytes.
        landmarks: joined to the rows; closed here.
        provenance: what made the crops, for ``knees.h5``'s attributes and the summary.
        size: pixels a side of a crop.
    """
    marked = _write_knees(out / (KNEES + _PART), release, chosen, staging, landmarks, provenance, size)
    landmarks.close()
    frame = _manifest(release, chosen, marked)
    frame.write_parquet(out / (MANIFEST + _PART))
    summary = {
        "format": FORMAT,
        **provenance,
        "knees": len(chosen.keys),
        "participants": frame["participant_id"].n_unique(),
        "grades": {str(g): int((frame["kl_grade"] == g).sum()) for g in range(5)},
        "with_landmarks": sum(marked),
        "pairs": {
            str(h): int(n) for h, n in zip(*np.unique(chosen.pairs.horizon, return_counts=True), strict=True)
        },
        "qc_flags": dict(sorted(frame["qc_flags"].explode().drop_nulls().value_counts().iter_rows())),
        "accounts": release.ledger.to_json(),
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False)
    (out / (SUMMARY + _PART)).write_text(text, encoding="utf-8")
    for name in (KNEES, MANIFEST, SUMMARY):
        put_in_place(out / (name + _PART), out / name)
    return summary


def _write_knees(
    path: Path,
    release: Release,
    chosen: Chosen,
    staging: Staging,
    landmarks: Landmarks,
    provenance: Mapping[str, Any],
    size: int,
) -> list[bool]:
    """Write ``knees.h5``; returns which rows have landmarks."""
    import h5py

    count = len(chosen.keys)
    points = np.full((count, len(LANDMARKS), 2), np.nan, np.float32)
    spacing = np.full((count, 2), np.nan, np.float32)
    to_source = np.empty((count, 2, 3), np.float32)
    places: dict[tuple[int, int], int] = {}
    for row, key in enumerate(chosen.keys):
        kept = chosen.kept[key]
        places[kept.image, kept.place] = row
        to_source[row] = np.array(kept.knee.to_source, np.float32).reshape(2, 3)
        if kept.knee.spacing_mm is not None:
            spacing[row] = kept.knee.spacing_mm
        found = landmarks.find(release.images[kept.image].path, key, to_source[row], size)
        if found is not None:
            points[row] = found
    with h5py.File(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["frame"] = "right knee: lateral at the left; left knees are mirrored"
        file.attrs["grey"] = "ranks of a crop's pixels, 0 to 255, bone bright"
        file.attrs["provenance"] = json.dumps(dict(provenance))
        crops = file.create_dataset(
            "crops",
            (count, size, size),
            np.uint8,
            chunks=(1, size, size),
            compression="gzip",
            compression_opts=COMPRESSION,
        )
        for image, knees in staging.read(with_pixels=True):
            for place, knee in enumerate(knees):
                if (row_of := places.get((image, place))) is not None:
                    crops.id.write_direct_chunk((row_of, 0, 0), knee.pixels)
        file["landmarks"], file["spacing_mm"], file["to_source"] = points, spacing, to_source
        for name, values in asdict(chosen.pairs).items():
            file[f"pairs/{name}"] = values
    marked: list[bool] = np.isfinite(points[:, 0, 0]).tolist()
    return marked


def _manifest(release: Release, chosen: Chosen, marked: list[bool]) -> pl.DataFrame:
    """One row for each knee and visit, in the order of ``knees.h5``."""
    import polars as pl

    columns: dict[str, list[Any]] = {name: [] for name in schema()}
    for row, key in enumerate(chosen.keys):
        kept, reading = chosen.kept[key], release.readings.get(key)
        values = {
            **key._asdict(),
            "kl_grade": None if reading is None else reading.kl_grade,
            "kl_code": None if reading is None else reading.kl_code,
            **asdict(release.background(key)),
            "path": release.images[kept.image].path,
            "input_sha256": kept.knee.input_sha256,
            "qc_flags": list(kept.knee.qc_flags),
            "has_landmarks": marked[row],
            "h5_row": row,
        }
        for name, column in columns.items():
            column.append(values[name])
    return pl.DataFrame(columns, schema=schema())


def schema() -> dict[str, Any]:
    """Columns of the manifest and their types."""
    import polars as pl

    text, number, yes = pl.String, pl.Float64, pl.Boolean
    return {
        "participant_id": text,
        "visit_month": pl.Int32,
        "side": text,
        "kl_grade": pl.Int8,
        "kl_code": text,
        "tkr": yes,
        "tkr_month": number,
        "site": text,
        "age": number,
        "sex": text,
        "bmi": number,
        "womac": number,
        "injury": yes,
        "surgery": yes,
        "split": text,
        "path": text,
        "input_sha256": text,
        "qc_flags": pl.List(pl.String),
        "has_landmarks": yes,
        "h5_row": pl.Int64,
    }
