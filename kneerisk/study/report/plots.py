"""The report's plots, each with how to read it and what not to conclude from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kneerisk.study.figures import cohort, enrichment, evaluation
from kneerisk.study.report.facts import Facts
from kneerisk.study.report.page import Plot

if TYPE_CHECKING:
    from kneerisk.study.scores import Scores


def cohort_plots(scores: Scores, facts: Facts) -> tuple[Plot, ...]:
    """Risks and grades of the whole cohort, and by group."""
    import polars as pl

    scored = scores.frame.filter(pl.col("status") == "ok")
    risk = scored["risk_12m"].drop_nulls().to_numpy()
    grades = {"image": facts.image_grades}
    if facts.reader_grades is not None:
        grades["reader"] = facts.reader_grades
    plots = [
        Plot(
            "risks",
            "How the risks are spread",
            partial(cohort.risk_histogram, risk),
            "Each bar counts knees by their 12-month risk; the lines are their mean and median.",
            "A high bar at the left is as it should be: few knees rise in a year. The spread says nothing"
            " about whether the risks are right.",
        ),
        Plot(
            "grades",
            "Kellgren-Lawrence grades now",
            partial(cohort.grade_bars, grades),
            "The grade by the image"
            + (", and the grade by a reader where the cohort brings one." if facts.reader_grades else "."),
            "Grade 1 is where readers differ most, and the image too: do not count it as disease.",
        ),
    ]
    if facts.groups:
        label = str(facts.group_label)
        named = scored.with_columns(pl.col(label).cast(pl.String).fill_null("not named"))
        by_name = {
            group.name: named.filter(pl.col(label) == group.name)["risk_12m"].drop_nulls().to_numpy()
            for group in facts.groups
        }
        plots += [
            Plot(
                "risks-by-group",
                f"Risk by {label}",
                partial(cohort.risk_by_group, by_name, label=label),
                "The box spans the middle half of the knees, the line the middle 90 %; the stroke is the "
                "median, the dot the mean.",
                f"A {label} that stands apart may have sicker knees, or another X-ray system: look at its "
                "pictures and flags before you call it a finding.",
            ),
            Plot(
                "grades-by-group",
                f"Grades by {label}",
                partial(cohort.grades_by_group, {g.name: g.grades for g in facts.groups}, label=label),
                "Each bar is one group's knees, parted by the image's grade.",
                "Groups differ by whom they recruited; a difference here is none between machines or "
                "readers.",
            ),
        ]
    return tuple(plots)


def evaluation_plots(found: Mapping[str, Any]) -> tuple[Plot, ...]:
    """Reliability, net benefit and discrimination, as far as they could be told."""
    plots = []
    if found["calibration_curve"]:
        plots.append(
            Plot(
                "reliability",
                "Reliability",
                partial(evaluation.reliability, found),
                "Each point is a tenth of the knees, or so: its mean risk, and how many of them had the "
                "outcome. On the dashed line a risk of 0.1 means one in ten.",
                "Points near the line say that the numbers fit this cohort, not that the risk tells knees"
                " apart.",
            )
        )
    if found["decision_curve"]:
        plots.append(
            Plot(
                "net-benefit",
                "Decision curve",
                partial(evaluation.net_benefit, found),
                "Net benefit of acting on those from a threshold upwards: events found, less false alarms"
                " weighed by the threshold's odds. The higher line is the better choice at that "
                "threshold.",
                "It weighs by the threshold alone. What acting costs, or does to a person, is not in it.",
            )
        )
    if found["overall"]["scores"]["model"]["auc"]["value"] is None:
        return tuple(plots)
    untold = sum(group["scores"]["model"]["auc"]["value"] is None for group in found["subgroups"])
    plots.append(
        Plot(
            "discrimination",
            "Discrimination",
            partial(evaluation.discrimination, found),
            "AUC with its 95 % interval: first on all knees beside the baselines, then in each group."
            + (f" {untold} groups have too few events to tell, and are left out." if untold else ""),
            "Many groups are many chances to differ. Where intervals overlap widely, no group is shown to"
            " be worse.",
        )
    )
    return tuple(plots)


def enrichment_plots(found: Mapping[str, Any]) -> tuple[Plot, ...]:
    """The curve over thresholds."""
    return (
        Plot(
            "enrichment",
            "Enrichment over thresholds",
            partial(enrichment.enrichment_curve, found),
            "From right to left fewer are enrolled, at a higher risk: their event rate rises, the trial "
            "shrinks, and more must be screened to fill it. The dotted line is the rule that was chosen.",
            "The best point of a curve is best by chance too; choose the threshold before the trial, and "
            "report whom it leaves out.",
        ),
    )
