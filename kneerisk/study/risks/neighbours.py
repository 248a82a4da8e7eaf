"""The other knee: of the same participant at the same visit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kneerisk.study.risks.equations import Knees
from kneerisk.study.scores import POSTERIOR

if TYPE_CHECKING:
    import polars as pl


def knees_of(frame: pl.DataFrame) -> tuple[Knees, int]:
    """Every row's own and other knee.

    The other knee is the opposite side's row of the same participant and visit. Where several rows answer to
    that (a visit with more than one radiograph), it is the one in the same image; where none or several are
    left, there is no other knee. A refused row still lends the grade that a reader gave it.

    Returns:
        The knees, one a row, and the number of rows whose other knee could not be told among several.
    """
    import polars as pl

    values = [*POSTERIOR, "kl_0m"]
    table = frame.select(
        "participant_id",
        "visit",
        "side",
        "source_path",
        *(pl.when(pl.col("status") == "ok").then(name).alias(name) for name in POSTERIOR),
        "kl_0m",
    ).with_row_index("_row")
    opposite = pl.col("side").replace_strict({"L": "R", "R": "L"}, default=None, return_dtype=pl.String)
    asking = table.select("_row", "participant_id", "visit", "source_path", side=opposite)
    by_visit = _answers(table.drop_nulls("participant_id"), ["participant_id", "visit", "side"], values)
    by_image = _answers(table, ["participant_id", "visit", "source_path", "side"], values)
    first = asking.join(
        by_visit,
        on=["participant_id", "visit", "side"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    unsure = first.filter(pl.col("_count").is_null() | (pl.col("_count") > 1))
    second = unsure.select("_row", "participant_id", "visit", "source_path", "side").join(
        by_image.filter(pl.col("_count") == 1).drop("_count"),
        on=["participant_id", "visit", "source_path", "side"],
        nulls_equal=True,
    )
    sure = first.filter(pl.col("_count") == 1).select("_row", *values)
    others = pl.concat([sure, second.select("_row", *values)])
    found = table.select("_row").join(others, on="_row", how="left", maintain_order="left")
    untold = unsure.filter(pl.col("_count") > 1).join(second, on="_row", how="anti").height

    def numbers(source: pl.DataFrame, names: list[str]) -> np.ndarray:
        return source.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()

    return (
        Knees(
            numbers(table, list(POSTERIOR)),
            numbers(table, ["kl_0m"])[:, 0],
            numbers(found, list(POSTERIOR)),
            numbers(found, ["kl_0m"])[:, 0],
        ),
        untold,
    )


def _answers(table: pl.DataFrame, keys: list[str], values: list[str]) -> pl.DataFrame:
    """What each key finds, and in how many rows."""
    import polars as pl

    known = table.drop_nulls("side")
    return known.group_by(keys).agg(pl.col(values).first(), pl.len().alias("_count"))
