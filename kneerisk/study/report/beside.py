"""The files beside a report: its plots as SVG and PNG, its numbers as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kneerisk.study.figures.style import save
from kneerisk.study.files import write_frame
from kneerisk.study.report.facts import Facts
from kneerisk.study.report.page import Plot

if TYPE_CHECKING:
    import polars as pl

_COHORT = {
    "group": "all knees, or one value of the column that tells groups apart",
    "knees": "scored knees",
    "participants": "whose ids are known",
    "not_scored": "rows that were refused or failed",
    "risk_mean": "mean 12-month risk",
    "risk_p5": "5th percentile of the risk, and so on",
    "kl_0": "knees of KL 0 by the image, and so on",
}
_EVALUATION = {
    "family": "what the knees are parted by; all: not at all",
    "group": "the value that they share",
    "score": "model, or the baseline",
    "measure": "which figure",
    "value": "the figure; null where it cannot be told",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "reason": "why it cannot be told",
    "knees": "in the group",
    "events": "in the group",
}
_ENRICHMENT = {
    "share": "of the candidates that are enrolled",
    "threshold": "risk from which they are",
    "figure": "which figure",
    "value": "the figure; null where it cannot be told",
    "low": "lower end of its interval",
    "high": "upper end of its interval",
    "reason": "why it cannot be told",
}


def write_files(
    folder: Path,
    plots: Sequence[Plot],
    facts: Facts,
    evaluation: Mapping[str, Any] | None,
    enrichment: Mapping[str, Any] | None,
) -> tuple[Path, ...]:
    """Write them all, over files of the same name; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for plot in plots:
        for kind in ("svg", "png"):
            written.append(folder / f"{plot.name}.{kind}")
            save(plot.draw, written[-1])
    tables: list[tuple[str, pl.DataFrame, Mapping[str, str]]] = [("cohort", _cohort(facts), _COHORT)]
    if evaluation is not None:
        tables.append(("evaluation", _evaluation(evaluation), _EVALUATION))
    if enrichment is not None:
        tables.append(("enrichment", _enrichment(enrichment), _ENRICHMENT))
    for name, frame, meanings in tables:
        written.append(folder / f"{name}.csv")
        write_frame(frame, written[-1], meanings)
    return tuple(written)


def _cohort(facts: Facts) -> pl.DataFrame:
    import polars as pl

    everybody = (
        "all",
        facts.scored,
        facts.participants,
        facts.refused + facts.failed,
        facts.risk,
        facts.image_grades,
    )
    groups = [(g.name, g.knees, g.participants, g.refused, g.risk, g.grades) for g in facts.groups]
    rows = []
    for name, knees, participants, lost, risk, grades in (everybody, *groups):
        quantiles = dict(
            zip(("risk_p5", "risk_p25", "risk_p50", "risk_p75", "risk_p95"), risk.quantiles, strict=True)
        )
        counts = {f"kl_{grade}": count for grade, count in enumerate(grades)}
        head = {"group": name, "knees": knees, "participants": participants, "not_scored": lost}
        rows.append({**head, "risk_mean": risk.mean, **quantiles, **counts})
    return pl.DataFrame(rows)


def _evaluation(found: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    rows = []
    for group in (found["overall"], *found["subgroups"]):
        tail = {"knees": group["knees"], "events": group["events"]}
        for score, figures in group["scores"].items():
            for measure, figure in figures.items():
                head = {
                    "family": group["family"],
                    "group": group["value"],
                    "score": score,
                    "measure": measure,
                }
                rows.append({**head, **figure, **tail})
    return pl.DataFrame(rows, infer_schema_length=None)


def _enrichment(found: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl

    rows = [
        {"share": point["share"], "threshold": point["threshold"], "figure": name, **figure}
        for point in (found["nobody_enriched"], *found["curve"])
        for name, figure in point.items()
        if isinstance(figure, dict)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)
