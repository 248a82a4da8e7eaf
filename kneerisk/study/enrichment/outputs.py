"""The files of ``kneerisk enrich``: the list of those selected, and the curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from kneerisk.study.enrichment.screening import Point
from kneerisk.study.results import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

SELECTED: Mapping[str, str] = {
    "rank": "1: the highest risk; candidates of one risk share the better rank",
    "participant_id": "participant, as text",
    "visit": "visit, as the score table names it",
    "side": "L or R",
    "risk": "what they were ranked by; the metadata names the column",
    "event": "whether the outcome was observed; null where its grades are not known",
    "kl_0m": "a reader's grade at screening, from the score table",
    "kl_now": "the middle of the image's grade probabilities",
    "risk_12m_basis": "what risk_12m rests on: grade (a reader's) or image",
    "qc_flags": "quality flags of the radiograph: look at them before anybody is invited",
    "source_path": "the radiograph",
}
"""Column of the list → what it holds."""

CURVE: Mapping[str, str] = {
    "threshold": "risk at and above which candidates are enrolled; null: everybody, nobody screened",
    "selected": "candidates at or above the threshold",
    "share": "of all candidates",
    "followed": "selected candidates whose outcome is known; 0 without labels",
    "events": "outcomes among those; null without labels",
    "event_rate": "observed where there are labels, else the mean of the calibrated risks",
    "predicted_rate": "mean risk of the same candidates",
    "captured": "share of all events (without labels: of the summed risk) that falls to those selected",
    "number_needed_to_screen": "candidates screened for each one enrolled",
    "per_arm": "sample size an arm, observed to the end",
    "enrolled": "both arms, those who will be lost included",
    "screened": "candidates to screen until so many are enrolled",
    "cost": "of screening and enrolment; without enrichment of enrolment alone",
    "caution": "why the intervals are not to be trusted",
    "predicted_within_interval": "whether the predicted rate lies within the observed one's interval",
}
"""Column of the curve → what it holds; ``_lo`` and ``_hi`` are the ends of the bootstrap's interval."""


def selected_frame(candidates: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """Those at or above the threshold, the highest risk first."""
    import polars as pl

    chosen = candidates.filter(pl.col("risk") >= threshold).sort(
        "risk", "participant_id", "side", descending=[True, False, False]
    )
    return chosen.select(pl.col("risk").rank("min", descending=True).alias("rank"), *chosen.columns).select(
        name for name in SELECTED if name == "rank" or name in chosen.columns
    )


def curve_frame(points: Sequence[Point]) -> pl.DataFrame:
    """One row a point; estimates become a value, the ends of its interval, and a note."""
    import polars as pl

    kinds: dict[str, Any] = {}
    rows = []
    for point in points:
        cells = dict(_cells(point))
        kinds |= {name: kind for name, (kind, _) in cells.items()}
        rows.append({name: value for name, (_, value) in cells.items()})
    return pl.DataFrame(rows, schema=kinds, orient="row")


def curve_meanings() -> dict[str, str]:
    """``CURVE`` with the columns of intervals."""
    found = dict(CURVE)
    for name in CURVE:
        found |= {
            f"{name}_lo": f"lower end of the interval of {name}",
            f"{name}_hi": f"upper end of the interval of {name}; null where it has none",
        }
    return found


def _cells(point: Point) -> Iterator[tuple[str, tuple[Any, Any]]]:
    import polars as pl

    whole = {"selected", "followed", "events"}
    for field in fields(Point):
        value = getattr(point, field.name)
        if isinstance(value, Figure):
            yield field.name, (pl.Float64, value.value)
            yield f"{field.name}_lo", (pl.Float64, value.low)
            yield f"{field.name}_hi", (pl.Float64, value.high)
        elif field.name == "caution":
            yield field.name, (pl.String, value)
        else:
            yield field.name, (pl.Int64 if field.name in whole else pl.Float64, value)
    yield "predicted_within_interval", (pl.Boolean, point.agrees)
