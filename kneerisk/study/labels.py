"""Readers' grades over time, joined to a score table: which knees had an outcome.

Nothing is left out in silence: what does not join is refused with how many there are and one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kneerisk.errors import UsageError
from kneerisk.releases import most, oai
from kneerisk.study.outcomes import Outcome, observed
from kneerisk.study.readings.label_table import KNEE, Labels, read_labels, refuse_twice
from kneerisk.study.scores import Scores, scored

if TYPE_CHECKING:
    import polars as pl

__all__ = ["KNEE", "Joined", "Labels", "Observed", "join", "observe", "read_labels"]

WINDOW_MONTHS = 3
"""How far from the horizon a reading may lie, unless asked otherwise: MOST's visit at 15 months tells 12."""

_MONTH = re.compile(r"m?0*(\d{1,3}) ?(?:m|mo|month|months)?$")
_RELEASE_VISITS = {
    "oai": {f"v{code}": month for code, month in oai.MONTHS.items()},
    "most": {f"v{code}": month for code, month in most.MONTHS.items()},
}
"""A release's own names of its visits: OAI's V01 lies at 12 months, MOST's V1 at 15."""
_FEWEST_SWAPPED = 10
_TIMES_SWAPPED = 2
"""Sides look swapped where so many knees, and so many times as say otherwise, have the other's grade."""
_START = frozenset({"baseline", "bl", "v00", "v0", "enrolment", "enrollment"})


@dataclass(frozen=True)
class Joined:
    """Scored knees with their readings."""

    frame: pl.DataFrame
    """The scored rows in the table's order, with ``start_month`` (Int64), ``reader_kl`` (Int64, the reader's
    grade at the start, null where there is none) and the labels' attributes."""
    readings: pl.DataFrame
    notes: tuple[str, ...]
    """How the two met, a sentence each: what a report must say."""


@dataclass(frozen=True)
class Observed:
    """The knees whose outcome is known."""

    outcome: Outcome
    months: int
    frame: pl.DataFrame
    """Rows of :attr:`Joined.frame` that can have the outcome and were read at its horizon, with
    ``later_kl`` (Int64), ``later_month`` (Int64) and ``event`` (Boolean)."""
    excluded: dict[str, int]
    """Scored knees that are not in ``frame``, by why; none is empty."""


def join(scores: Scores, labels: Labels, *, allow_unmatched: bool = False) -> Joined:
    """Bring readings to scored knees, by participant and side.

    A row's visit says at which month its knee starts (``12m``, ``12``, ``baseline``); a knee that was scored
    once, at a visit without such a name, starts at month 0. The reader's grade at the start is the labels'
    at that month, else the score table's ``kl_0m``.

    Args:
        scores: the score table.
        labels: the readings.
        allow_unmatched: go on where knees of the labels were never scored, or scored rows have no id.

    Raises:
        UsageError: no knee of one is in the other; or some are not, unless ``allow_unmatched``; or a knee
            was scored twice at one visit; or the sides look swapped, unless ``allow_unmatched``.
    """
    import polars as pl

    rows = scored(scores.frame)
    refuse_twice(rows, ("participant_id", "visit", "side"), f"{scores.path.name}: scored knees and visits")
    notes = [*_match(rows, labels, scores.path.name, allow_unmatched)]
    rows, said = _with_start(rows, labels)
    notes += said
    at_start = labels.readings.rename({"visit_month": "start_month", "kl": "_label_kl"})
    rows = rows.join(at_start, on=[*KNEE, "start_month"], how="left", maintain_order="left")
    if not allow_unmatched:
        _refuse_swapped(rows, at_start, scores.path.name, labels.source)
    both = rows.filter(pl.col("_label_kl") != pl.col("kl_0m"))
    if len(both):
        notes.append(
            f"the reader's grade at the start differs between {scores.path.name} (kl_0m) and {labels.source} "
            f"for {len(both)} knees, such as {_name(both, 0)}; the labels' is taken"
        )
    rows = rows.with_columns(reader_kl=pl.coalesce("_label_kl", "kl_0m")).drop("_label_kl")
    known = [name for name in labels.attributes.columns if name not in KNEE]
    clash = [name for name in known if name in rows.columns]
    if clash:
        notes.append(f"{', '.join(clash)} of {labels.source} not used: the score table has columns so called")
    kept = [name for name in known if name not in clash]
    rows = rows.join(labels.attributes.select(*KNEE, *kept), on=list(KNEE), how="left", maintain_order="left")
    return Joined(rows, labels.readings, tuple(notes))


def observe(joined: Joined, outcome: Outcome, months: int, *, window: int = WINDOW_MONTHS) -> Observed:
    """Whether each knee had the outcome ``months`` after its start.

    Args:
        joined: scored knees with their readings.
        outcome: which.
        months: the horizon, above 0.
        window: the nearest reading within so many months of the horizon is taken.

    Raises:
        UsageError: the horizon is no later than the window, or no knee's outcome is known.
    """
    import polars as pl

    if not 0 <= window < months:
        raise UsageError(
            f"a window of {window} months does not go with a horizon of {months}: name a smaller"
        )
    later = joined.readings.rename({"kl": "later_kl"}).with_columns(later_month="visit_month")
    rows = joined.frame.with_row_index("_row").with_columns(_target=pl.col("start_month") + months)
    rows = (
        rows.sort("_target")
        .join_asof(
            later.sort("visit_month"),
            left_on="_target",
            right_on="visit_month",
            by=list(KNEE),
            strategy="nearest",
            tolerance=window,
            check_sortedness=False,
        )
        .sort("_row")
        .drop("_row", "_target", "visit_month", strict=False)
    )
    start = rows["reader_kl"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    end = rows["later_kl"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    seen = pl.Series("event", observed(outcome, start, end), nan_to_null=True).cast(pl.Boolean)
    rows = rows.with_columns(seen)
    above = outcome.highest_at_risk + 1
    why = {
        "no reader's grade at the start": pl.col("reader_kl").is_null(),
        f"at KL {above}{' or above' if above < 4 else ''} already, cannot have the outcome": pl.col(
            "reader_kl"
        )
        >= above,
        f"not read at {months} months": pl.col("later_kl").is_null(),
    }
    excluded: dict[str, int] = {}
    left = rows
    for reason, mask in why.items():
        excluded[reason] = int(left.select(mask.fill_null(False).sum()).item())
        left = left.filter(~mask.fill_null(False))
    if left.is_empty():
        listed = "; ".join(f"{reason}: {count}" for reason, count in excluded.items() if count)
        raise UsageError(
            f"no scored knee tells whether it had {outcome.words} within {months} months: {listed}"
        )
    return Observed(outcome, months, left, {reason: n for reason, n in excluded.items() if n})


def _match(rows: pl.DataFrame, labels: Labels, table: str, allow: bool) -> Iterable[str]:
    """Refuse, or say, what stands in one table and not in the other."""
    import polars as pl

    read = labels.readings.select(KNEE).unique(maintain_order=True)
    nameless = rows.filter(pl.col("participant_id").is_null())
    knees = rows.drop_nulls("participant_id").select(KNEE).unique(maintain_order=True)
    unread = knees.join(read, on=list(KNEE), how="anti", maintain_order="left")
    unscored = read.join(knees, on=list(KNEE), how="anti", maintain_order="left")
    if len(unread) == len(knees):
        raise UsageError(_nothing_joins(rows, read, labels.source, table))
    problems = []
    if len(unscored):
        problems.append(
            f"{len(unscored)} of {len(read)} labelled knees were not scored, such as {_name(unscored, 0)}"
        )
    if len(nameless):
        problems.append(f"{len(nameless)} scored knees of {table} have no participant_id")
    if problems and not allow:
        raise UsageError(
            f"{labels.source} and {table} do not join: {'; '.join(problems)}. Mend the ids or sides or, "
            "where that is as it should be, add --allow-unmatched"
        )
    yield from problems
    if len(unread):
        yield f"{len(unread)} of {len(knees)} scored knees have no label, such as {_name(unread, 0)}"


def _refuse_swapped(rows: pl.DataFrame, at_start: pl.DataFrame, table: str, source: str) -> None:
    """UsageError where the grades of one table are those of the other side in the other.

    Where both knees of most people were scored, labels with left for right join without a gap. A knee tells
    where its grade (the reader's in the table, else the image's) is that of one side's label alone.
    """
    import polars as pl

    across = at_start.with_columns(
        side=pl.col("side").replace_strict({"L": "R", "R": "L"}, return_dtype=pl.String)
    ).rename({"_label_kl": "_across"})
    told = rows.join(across, on=[*KNEE, "start_month"], how="inner", maintain_order="left").select(
        *KNEE, "_label_kl", "_across", grade=pl.coalesce("kl_0m", "kl_now")
    )
    own, other = (told.filter(pl.col("grade") == pl.col(name)) for name in ("_label_kl", "_across"))
    for_own = len(own.filter(pl.col("_across") != pl.col("_label_kl")))
    for_other = other.filter(pl.col("_across") != pl.col("_label_kl"))
    if len(for_other) >= _FEWEST_SWAPPED and len(for_other) > _TIMES_SWAPPED * for_own:
        first = for_other.row(0, named=True)
        raise UsageError(
            f"the sides of {source} look swapped: where the labels of a participant's knees differ, "
            f"{len(for_other)} knees have in {table} the grade of the other side's label and {for_own} that "
            f"of their own, such as {first['participant_id']} {first['side']} (KL {first['grade']}; labelled "
            f"{first['_label_kl']}, the other side {first['_across']}). Mend the sides or, where that is as "
            "it should be, add --allow-unmatched"
        )


def _nothing_joins(rows: pl.DataFrame, read: pl.DataFrame, source: str, table: str) -> str:
    """Why no knee is in both tables: other ids, or other sides."""
    import polars as pl

    ids = rows["participant_id"].drop_nulls().unique(maintain_order=True)
    if ids.is_empty():
        return f"no scored knee of {table} has a participant_id to join labels by: score with --id-from"
    who = read["participant_id"].unique(maintain_order=True)
    shared = ids.filter(ids.is_in(who.implode()))
    head = f"none of {len(read)} labelled knees of {source} was scored in {table}"
    if len(shared):
        sides = read.filter(pl.col("participant_id") == shared[0])["side"].to_list()
        scored_sides = rows.filter(pl.col("participant_id") == shared[0])["side"].to_list()
        return (
            f"{head}: {len(shared)} participants are in both, but on other sides, such as {shared[0]} "
            f"(labelled {', '.join(sides)}; scored {', '.join(scored_sides)})"
        )
    bare = who.str.strip_chars_start("0")
    note = ""
    if ids.str.strip_chars_start("0").is_in(bare.implode()).any():
        note = "; without their leading zeros they would meet, so one table lost them: keep ids as text"
    return f"{head}: the ids differ, such as {who[0]} in the labels and {ids[0]} in the scores{note}"


def _with_start(rows: pl.DataFrame, labels: Labels) -> tuple[pl.DataFrame, list[str]]:
    """Month at which each row's knee starts, by its visit."""
    import polars as pl

    visits = rows["visit"].unique(maintain_order=True)
    known = set(labels.readings["visit_month"].unique())
    own = _RELEASE_VISITS.get(labels.kind, {})
    months = {visit: own.get((visit or "").casefold(), month_of_visit(visit, known)) for visit in visits}
    unknown = [visit for visit, month in months.items() if month is None and visit is not None]
    column = rows["visit"].replace_strict(
        {k: v for k, v in months.items() if k is not None and v is not None},
        default=None,
        return_dtype=pl.Int64,
    )
    blank = column.is_null()
    repeated = rows.filter(blank).filter(pl.struct(KNEE).is_duplicated())
    if len(repeated):
        named = ", ".join(repr(v) for v in unknown[:5]) or "none at all"
        raise UsageError(
            f"{len(repeated)} scored rows are of knees scored at several visits whose names tell no month "
            f"({named}), such as {_name(repeated, 0)}: name visits 0m, 12m, … in the manifest"
        )
    notes = []
    if unknown:
        listed = ", ".join(repr(visit) for visit in unknown[:5])
        notes.append(f"visits called {listed} tell no month: taken as the start, month 0")
    return rows.with_columns(start_month=column.fill_null(0)), notes


def month_of_visit(visit: str | None, known: set[int]) -> int | None:
    """``12m``, ``m12``, ``12 months`` or ``baseline`` → months; a bare number only where labels have it."""
    word = "" if visit is None else visit.strip().casefold()
    if word in _START:
        return 0
    if (match := _MONTH.fullmatch(word)) is None:
        return None
    month = int(match.group(1))
    return None if word.isdigit() and month not in known else month


def _name(frame: pl.DataFrame, row: int) -> str:
    return f"{frame['participant_id'][row]} {frame['side'][row]}"
