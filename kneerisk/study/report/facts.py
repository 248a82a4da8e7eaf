"""A score table → the numbers that its report tells: rows, refusals, flags, risks, grades, groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from kneerisk.study.scores import Scores

Array = npt.NDArray[np.float64]

MOST_GROUPS = 20
"""So many of the largest groups are shown."""
_VERY_UNUSUAL = "far from what the networks learnt on: it may be no frontal knee"
_UNUSUAL = "the knee looks unlike those that the networks learnt on: its risk may mean little"


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that one reason left without a score."""

    status: str
    reason: str
    rows: int
    message: str
    """Of the first of them."""
    source_path: str


@dataclass(frozen=True, slots=True)
class Flag:
    """A quality flag of scored knees."""

    name: str
    knees: int
    meaning: str


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure is spread over knees."""

    mean: float
    quantiles: tuple[float, float, float, float, float]
    """5th, 25th, 50th, 75th, 95th percentile."""


@dataclass(frozen=True, slots=True)
class Group:
    """The scored knees of one site, or of one value of another column."""

    name: str
    knees: int
    participants: int
    risk: Spread
    grades: tuple[int, ...]
    """Knees of KL 0 to 4, by the image."""
    refused: int
    """Rows of the group without a score."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the report tells of a cohort."""

    rows: int
    scored: int
    refused: int
    failed: int
    images: int
    participants: int
    without_id: int
    """Scored knees whose participant is not named."""
    visits: tuple[str, ...]
    reasons: tuple[Refused, ...]
    flags: tuple[Flag, ...]
    risk: Spread
    basis: tuple[tuple[str, int], ...]
    """What the headline risk rests on, and how many knees each."""
    image_grades: tuple[int, ...]
    reader_grades: tuple[int, ...] | None
    at_ceiling: int
    group_label: str | None
    groups: tuple[Group, ...]
    groups_left_out: int


def completed(frame: pl.DataFrame) -> pl.DataFrame:
    """A table's rows with every column that a report shows; those it lacks are null."""
    import polars as pl

    texts = ("source_path", "reason", "message", "visit", "side", "participant_id", "risk_12m_basis")
    absent = [pl.lit(None, pl.String).alias(name) for name in texts if name not in frame.columns]
    if "qc_flags" not in frame.columns:
        absent.append(pl.lit(None, pl.List(pl.String)).alias("qc_flags"))
    return frame.with_columns(absent)


def facts_of(scores: Scores, by: str | None) -> Facts:
    """Count a table.

    Args:
        scores: at least one knee is scored.
        by: the column whose values are told apart; ``None``: ``site``, where the table has it.

    Raises:
        UsageError: the table has no such column.
    """
    import polars as pl

    frame = completed(scores.frame)
    if by is not None and by not in frame.columns:
        raise UsageError(f"--by {by}: {scores.path.name} has no such column")
    label = by or ("site" if "site" in frame.columns else None)
    scored = frame.filter(pl.col("status") == "ok")
    groups = () if label is None else _groups(frame, label)
    reader = scored["kl_0m"].drop_nulls()
    visits = scored["visit"].drop_nulls().unique().sort().to_list()
    return Facts(
        rows=frame.height,
        scored=scored.height,
        refused=frame.filter(pl.col("status") == "refused").height,
        failed=frame.filter(pl.col("status") == "failed").height,
        images=frame["source_path"].n_unique(),
        participants=scored["participant_id"].drop_nulls().n_unique(),
        without_id=scored["participant_id"].null_count(),
        visits=tuple(map(str, visits)),
        reasons=_reasons(frame),
        flags=_flags(scored),
        risk=_spread(scored["risk_12m"]),
        basis=_counts(scored, "risk_12m_basis"),
        image_grades=_grades(scored["kl_now"]),
        reader_grades=_grades(reader) if len(reader) else None,
        at_ceiling=scored.filter(pl.coalesce("kl_0m", "kl_now") == 4).height,
        group_label=label,
        groups=groups[:MOST_GROUPS],
        groups_left_out=max(0, len(groups) - MOST_GROUPS),
    )


def _reasons(frame: pl.DataFrame) -> tuple[Refused, ...]:
    import polars as pl

    lost = frame.filter(pl.col("status") != "ok")
    counted = lost.group_by("status", "reason", maintain_order=True).agg(
        pl.len().alias("rows"), pl.col("message").first(), pl.col("source_path").first()
    )
    ordered = counted.sort("rows", descending=True, maintain_order=True)
    return tuple(
        Refused(str(r["status"]), str(r["reason"]), r["rows"], str(r["message"] or ""), str(r["source_path"]))
        for r in ordered.iter_rows(named=True)
    )


def _flags(scored: pl.DataFrame) -> tuple[Flag, ...]:

    from kneerisk.radiograph.flags import MEANINGS

    meanings = {**MEANINGS, "unusual-appearance": _UNUSUAL, "very-unusual-appearance": _VERY_UNUSUAL}
    counted = scored.explode("qc_flags").drop_nulls("qc_flags").group_by("qc_flags").len()
    ordered = counted.sort(["len", "qc_flags"], descending=[True, False])
    return tuple(Flag(name, count, meanings.get(name, "")) for name, count in ordered.iter_rows())


def _counts(scored: pl.DataFrame, column: str) -> tuple[tuple[str, int], ...]:
    counted = scored.drop_nulls(column).group_by(column).len().sort("len", descending=True)
    return tuple((str(value), int(count)) for value, count in counted.iter_rows())


def _groups(frame: pl.DataFrame, label: str) -> tuple[Group, ...]:
    import polars as pl

    found = []
    named = frame.with_columns(pl.col(label).cast(pl.String).fill_null("not named"))
    for (name,), rows in named.group_by(label, maintain_order=True):
        scored = rows.filter(pl.col("status") == "ok")
        if scored.height:
            found.append(
                Group(
                    name=str(name),
                    knees=scored.height,
                    participants=scored["participant_id"].drop_nulls().n_unique(),
                    risk=_spread(scored["risk_12m"]),
                    grades=_grades(scored["kl_now"]),
                    refused=rows.height - scored.height,
                )
            )
    return tuple(sorted(found, key=lambda group: (-group.knees, group.name)))


def _spread(values: pl.Series) -> Spread:
    known = values.drop_nulls().to_numpy()
    quantiles = np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()
    return Spread(float(known.mean()), tuple(quantiles))


def _grades(values: pl.Series) -> tuple[int, ...]:
    counts = np.bincount(values.drop_nulls().to_numpy().astype(np.int64), minlength=5)
    return tuple(int(count) for count in counts[:5])
