"""The contact sheet: which knees a report shows, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Strip:
    """A few rows of the table that are shown for one reason."""

    name: str
    title: str
    why: str
    rows: tuple[dict[str, Any], ...]


def strips(frame: pl.DataFrame, each: int) -> tuple[Strip, ...]:
    """The knees at the highest risk, those whose grade is least certain, and one refused row a reason.

    Knees that cannot rise are never among the highest risks.

    Args:
        frame: a score table's rows, :func:`kneerisk.study.report.facts.completed`.
        each: at most so many in a strip.
    """
    import polars as pl

    scored = frame.filter(pl.col("status") == "ok").with_row_index("_row")
    p = scored.select(f"kl_now_p{grade}" for grade in range(5)).to_numpy()
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=1)
    scored = scored.with_columns(pl.Series("entropy", entropy))
    can_rise = scored.filter(pl.coalesce("kl_0m", "kl_now") < 4)
    highest = can_rise.sort("risk_12m", descending=True, nulls_last=True, maintain_order=True).head(each)
    rest = scored.filter(~pl.col("_row").is_in(highest["_row"].implode()))
    doubtful = rest.sort("entropy", descending=True, maintain_order=True).head(each)
    lost = frame.filter(pl.col("status") != "ok")
    refused = lost.unique("reason", keep="first", maintain_order=True).head(each)
    found = (
        Strip(
            "highest",
            "At the highest risk",
            "Ranked by the headline risk; knees of grade 4 cannot rise and are left out. Look whether the "
            "networks saw a knee, and the whole of it, before any of these is acted on.",
            _rows(highest),
        ),
        Strip(
            "uncertain",
            "Least certain",
            "The knees whose grade the image leaves most open (the entropy of its probabilities). Such a "
            "risk is an average over what the knee might be.",
            _rows(doubtful),
        ),
        Strip(
            "refused",
            "Not scored",
            "The first row of each reason. What is listed here is missing from every figure of this report.",
            _rows(refused),
        ),
    )
    return tuple(strip for strip in found if strip.rows)


def _rows(frame: pl.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple(frame.iter_rows(named=True))
