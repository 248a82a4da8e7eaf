"""From knees to participants: the worse knee, and either knee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_KEYS = ("participant_id", "visit")


def worse_and_either(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """One row a participant and visit.

    Args:
        frame: rows of knees; those without a participant or a risk take no part.
        columns: the risks.

    Returns:
        ``participant_id``, ``visit``, ``knees``, and of each risk ``…_worse``, the higher of the two knees,
        ``…_worse_side``, and ``…_either``, 1 - Π(1 - risk): as if the two knees' outcomes were independent
        given their risks, which makes it a little too high.
    """
    import polars as pl

    known = frame.filter((pl.col("status") == "ok") & pl.col("participant_id").is_not_null())
    figures = []
    for name in columns:
        figures += [
            pl.col(name).max().alias(f"{name}_worse"),
            pl.col("side")
            .sort_by(name, descending=True, nulls_last=True)
            .first()
            .alias(f"{name}_worse_side"),
            (1 - (1 - pl.col(name)).product()).alias(f"{name}_either"),
        ]
    people = known.group_by(_KEYS, maintain_order=True).agg(pl.len().alias("knees"), *figures)
    empty = [
        pl.when(pl.col(f"{name}_worse").is_not_null()).then(f"{name}{suffix}").alias(f"{name}{suffix}")
        for name in columns
        for suffix in ("_worse_side", "_either")
    ]
    return people.with_columns(empty).with_columns(pl.col(f"{name}_either").round(6) for name in columns)


def dictionary(columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """The data dictionary of a participants' table."""
    found = {}
    for name in columns:
        unit, kind = "", "text"
        if name.endswith("_worse"):
            kind, unit, meaning = "real", "probability", f"{name[:-6]} of the knee where it is higher"
        elif name.endswith("_worse_side"):
            meaning = "side of that knee, L or R"
        elif name.endswith("_either"):
            kind, unit = "real", "probability"
            meaning = (
                f"P(either knee), from {name[:-7]} of both as if they were independent: a little too high"
            )
        elif name == "knees":
            kind, meaning = "integer", "scored knees of the participant at the visit"
        else:
            meaning = "participant, as text" if name == "participant_id" else "visit"
        found[name] = {"kind": kind, "unit": unit, "meaning": meaning, "null": "where no knee has the risk"}
    return found
