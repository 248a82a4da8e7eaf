"""Labels from a release as it was distributed: OAI's or MOST's tables of readings, or their folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kneerisk.errors import UsageError
from kneerisk.releases import most, oai
from kneerisk.releases.cells import SUFFIXES
from kneerisk.releases.ledger import Ledger
from kneerisk.releases.oai_background import OaiBackground, is_background
from kneerisk.releases.records import Background, KneeKey, Reading

if TYPE_CHECKING:
    import polars as pl

Kind = Literal["oai", "most"]
_KNOWN = ("age", "sex", "bmi", "site", "womac", "injury", "surgery")


def is_release(path: Path) -> bool:
    """Whether a file bears the name of a release's table of readings, or is a folder."""
    stem = path.stem.casefold()
    return path.is_dir() or oai.is_readings(stem) or most.is_readings(stem)


def read_release(path: Path) -> tuple[Kind, Mapping[KneeKey, Reading], Callable[[KneeKey], Background]]:
    """Readings, and what else is known of a knee at a visit.

    Args:
        path: one table of readings, or a folder whose files (or whose folders' files) are a release's tables:
            all of its readings, and age, sex and the like where they lie there too.

    Raises:
        UsageError: no table of readings is there, those of both releases are, or one is not as distributed.
    """
    ledger = Ledger()
    tables = [path] if path.is_file() else _tables_in(path)
    by_stem = {table.stem.casefold(): table for table in tables}
    of_oai = [table for stem, table in sorted(by_stem.items()) if oai.is_readings(stem)]
    of_most = [table for stem, table in sorted(by_stem.items()) if most.is_readings(stem)]
    if bool(of_oai) == bool(of_most):
        raise UsageError(
            f"{path} holds {'readings of both OAI and MOST' if of_oai else 'no table of readings'}: name one "
            "file of labels, or a folder with OAI's kxr_sq_bu00.txt … or MOST's MOSTV01235XRAY.txt"
        )
    if of_oai:
        readings, _ = oai.read_readings(of_oai, ledger)
        known = OaiBackground([t for stem, t in by_stem.items() if is_background(stem)], ledger).of
        return "oai", readings, known
    grades: dict[KneeKey, Reading] = {}
    for table in of_most:
        most.read_grades(table, grades, ledger)
    return "most", grades, most.MostBackground(by_stem, ledger).of


def frames(
    readings: Mapping[KneeKey, Reading], known: Callable[[KneeKey], Background]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Readings as rows of knee, month and grade (null where there is none); knees with what is known at 0."""
    import polars as pl

    rows = [(key.participant_id, key.side, key.visit_month, read.kl_grade) for key, read in readings.items()]
    schema = {
        "participant_id": pl.String, "side": pl.String, "visit_month": pl.Int64, "kl": pl.Int64,
    }  # fmt: skip
    knees = dict.fromkeys((key.participant_id, key.side) for key in readings)
    told = [
        {"participant_id": who, "side": side}
        | {k: v for k, v in asdict(known(KneeKey(who, 0, side))).items() if k in _KNOWN}
        for who, side in knees
    ]
    attributes = pl.DataFrame(told, infer_schema_length=None)
    empty = [name for name in _KNOWN if attributes[name].null_count() == len(attributes)]
    return pl.DataFrame(rows, schema=schema, orient="row"), attributes.drop(empty)


def _tables_in(folder: Path) -> list[Path]:
    """Tables in a folder and in those directly below it."""
    try:
        below = [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]
        files = [entry for place in (folder, *below) for entry in sorted(place.iterdir()) if entry.is_file()]
    except OSError as error:
        raise UsageError(f"{folder} cannot be listed ({error.strerror}); check its permissions") from error
    return [file for file in files if file.suffix.casefold() in SUFFIXES]
