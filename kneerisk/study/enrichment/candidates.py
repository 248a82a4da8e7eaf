"""A score table → the candidates of a trial: one row a knee, or a participant's knee at the highest risk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kneerisk.errors import KneeriskError, UsageError
from kneerisk.study.enrichment.screening import Pool
from kneerisk.study.outcomes import Outcome
from kneerisk.study.scores import KEYS

if TYPE_CHECKING:
    import polars as pl

    from kneerisk.study.scores import Scores

SHOWN = ("kl_0m", "kl_now", "risk_12m_basis", "qc_flags", "source_path")
"""Columns that the list of those selected keeps beside ids and risk, where the score table has them."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Those whom a trial could enrol."""

    frame: pl.DataFrame
    """A row a candidate: ``participant_id``, ``visit``, ``side``, ``risk``, ``event`` (null: not known;
    absent without labels), and those of ``SHOWN`` that the table has."""
    unit: Literal["knees", "participants"]
    left_out: Mapping[str, int]
    """Why → knees; what is zero is absent."""
    participants: int
    both_knees: int
    """Participants who bring two candidates."""

    def pool(self, *, is_probability: bool) -> Pool:
        """As arrays."""
        import numpy as np

        codes = self.frame["participant_id"].rank("dense").to_numpy().astype(np.int64) - 1
        event = self.frame["event"].cast(float).to_numpy() if "event" in self.frame.columns else None
        return Pool(self.frame["risk"].to_numpy(), codes, event, is_probability)


def candidates(
    scores: Scores,
    risk: str,
    outcome: Outcome,
    *,
    readings: pl.DataFrame | None,
    visit: str | None = None,
    one_knee: bool = False,
) -> Candidates:
    """Choose the visit, leave out who cannot be enrolled, join the outcome, choose the knee.

    Args:
        scores: the table.
        risk: the column that ranks.
        outcome: knees that cannot have it are left out, by the reader's grade, else the image's.
        readings: ``participant_id``, ``visit``, ``side``, ``reader_kl`` and ``event`` (null where the outcome
            is not known), a row a scored knee; ``None`` without labels.
        visit: which of the table's visits; needed where a knee has several.
        one_knee: of each participant only the knee at the highest risk (the left one where both are equal).

    Raises:
        UsageError: the table lacks the column, has no such visit, several visits, a knee twice, or scored
            knees without an id.
        KneeriskError: nobody is left.
    """
    import polars as pl

    name, frame = scores.path.name, scores.frame
    if risk not in frame.columns or not frame[risk].dtype.is_numeric():
        known = ", ".join(c for c in frame.columns if c.startswith("risk_") and frame[c].dtype.is_numeric())
        raise UsageError(f"{name} has no column {risk} of numbers to rank by; it has {known}")
    frame = _of_visit(frame, visit, name)
    left_out = {"refused or failed": frame.filter(pl.col("status") != "ok").height}
    frame = frame.filter(pl.col("status") == "ok")
    left_out["without a risk"] = frame[risk].null_count() + int(frame[risk].is_nan().sum())
    frame = frame.filter(pl.col(risk).is_not_null() & pl.col(risk).is_not_nan())
    _refuse_unknown(frame, name)
    read = "kl_0m"
    if readings is not None:
        frame = frame.join(readings, on=KEYS, how="left", nulls_equal=True, maintain_order="left")
        read = "reader_kl"
    grade = pl.coalesce(read, "kl_now")
    able = grade <= outcome.highest_at_risk
    left_out["at the ceiling: of a grade that cannot have the outcome"] = frame.filter(~able).height
    frame = frame.filter(able)
    if one_knee:
        before = frame.height
        order = frame.sort(risk, "side", descending=[True, False], maintain_order=True)
        frame = order.unique("participant_id", keep="first", maintain_order=True)
        left_out["the participant's other knee is at the higher risk"] = before - frame.height
    if frame.is_empty():
        counted = "; ".join(f"{why}: {count}" for why, count in left_out.items() if count)
        raise KneeriskError(f"{name} holds nobody whom a trial could enrol. Left out: {counted}")
    ranked = pl.col(risk).cast(pl.Float64).alias("risk")
    kept = ["event", *SHOWN] if readings is not None else SHOWN
    people = frame.group_by("participant_id").len()
    return Candidates(
        frame=frame.select(*KEYS, ranked, *(name for name in kept if name in frame.columns)),
        unit="participants" if one_knee else "knees",
        left_out={why: count for why, count in left_out.items() if count},
        participants=people.height,
        both_knees=people.filter(pl.col("len") > 1).height,
    )


def _of_visit(frame: pl.DataFrame, visit: str | None, name: str) -> pl.DataFrame:
    import polars as pl

    if visit is not None:
        found = frame.filter(pl.col("visit") == visit)
        if found.is_empty():
            there = ", ".join(str(v) for v in frame["visit"].unique().sort().to_list()[:8])
            raise UsageError(f"{name} has no visit {visit}; it has {there}")
        return found
    scored = frame.filter((pl.col("status") == "ok") & pl.col("participant_id").is_not_null())
    several = scored.group_by("participant_id", "side").agg(pl.col("visit").n_unique().alias("n"))
    several = several.filter(pl.col("n") > 1).sort("participant_id", "side")
    if several.height:
        who, side, _ = several.row(0)
        visits = scored.filter((pl.col("participant_id") == who) & (pl.col("side") == side))["visit"]
        raise UsageError(
            f"{several.height} knees of {name} stand there at several visits, such as {who} {side} at "
            f"{', '.join(map(str, visits.unique().sort()))}: a trial screens once. Choose with --visit"
        )
    return frame


def _refuse_unknown(frame: pl.DataFrame, name: str) -> None:
    import polars as pl

    if without := frame["participant_id"].null_count():
        raise UsageError(
            f"{without} scored knees of {name} have no participant_id, so nobody can tell which two are one "
            "person's: score again with --id-from, or with a manifest that names them"
        )
    twice = frame.group_by("participant_id", "side").len().filter(pl.col("len") > 1)
    if twice.height:
        who, side, times = twice.sort("participant_id", "side").row(0)
        raise UsageError(
            f"{twice.height} knees of {name} were scored more than once, such as {who} {side} {times} times: "
            "keep one row of each, by its source_path"
        )
