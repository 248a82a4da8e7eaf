"""Plots of an evaluation: reliability, net benefit, and discrimination in every group of knees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kneerisk.study.figures.style import (
    Palette,
    axes,
    count_axis,
    legend,
    new_figure,
    percent_axis,
    short,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Document = Mapping[str, Any]
"""An evaluation as :meth:`kneerisk.study.results.Evaluation.to_json` gives it."""


def reliability(found: Document, palette: Palette) -> Figure:
    """Observed frequency over mean risk, bin by bin, and how many knees each bin holds."""
    bins = found["calibration_curve"]
    figure = new_figure(5.2, 4.2)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    figure.patch.set_alpha(0)
    for each in (upper, lower):
        style(each, palette)
    top = 1.08 * max(*(b["risk"] for b in bins), *(b["high"] for b in bins), 0.02)
    upper.plot((0, top), (0, top), color=palette.muted, linestyle="--", linewidth=1.2, label="as promised")
    risk = [b["risk"] for b in bins]
    observed = [b["observed"] for b in bins]
    # An interval may end at the frequency itself, and a rounding error beyond it.
    below = [max(b["observed"] - b["low"], 0.0) for b in bins]
    above = [max(b["high"] - b["observed"], 0.0) for b in bins]
    upper.errorbar(risk, observed, (below, above), color=palette.main, fmt="o-", linewidth=1.6, markersize=5,
                   elinewidth=1.2, label="observed, with 95 % intervals")  # fmt: skip
    upper.set_xlim(0, top)
    upper.set_ylim(0, top)
    upper.set_ylabel("observed frequency")
    percent_axis(upper.yaxis)
    legend(upper, palette, "upper left")
    lower.bar(risk, [b["knees"] for b in bins], top / 45, color=palette.main, alpha=0.6)
    lower.set_ylabel("knees")
    count_axis(lower.yaxis)
    lower.set_xlabel("mean risk of the bin")
    percent_axis(lower.xaxis)
    return figure


def net_benefit(found: Document, palette: Palette) -> Figure:
    """Net benefit of acting on the risk, on everybody and on nobody, over thresholds."""
    curve = found["decision_curve"]
    figure = new_figure(7.0, 3.3)
    drawn = axes(figure, palette)
    thresholds = [point["threshold"] for point in curve]
    model = [point["model"] for point in curve]
    nan = float("nan")
    low, high = ([nan if p[end] is None else p[end] for p in curve] for end in ("low", "high"))
    drawn.fill_between(thresholds, low, high, color=palette.main, alpha=0.18, linewidth=0)
    drawn.plot(thresholds, model, color=palette.main, linewidth=2, label="by the risk")
    drawn.plot(
        thresholds, [p["treat_all"] for p in curve], color=palette.other, linewidth=1.6, label="everybody"
    )
    drawn.axhline(0, color=palette.muted, linewidth=1.2, linestyle="--", label="nobody")
    for name in dict.fromkeys(name for point in curve for name in point["baselines"]):
        values = [point["baselines"].get(name, nan) for point in curve]
        drawn.plot(thresholds, values, color=palette.third, linewidth=1.2, label=f"by {name}", linestyle=":")
    top = max(*model, *(p["treat_all"] for p in curve))
    drawn.set_ylim(-0.35 * top if top > 0 else -0.01, 1.15 * top if top > 0 else 0.01)
    drawn.set_xlim(0, min(max(thresholds), max(0.1, 4 * found["overall"]["prevalence"])))
    drawn.set_xlabel("threshold: the risk from which somebody would act")
    drawn.set_ylabel("net benefit, a knee")
    percent_axis(drawn.xaxis)
    legend(drawn, palette, "upper right")
    return figure


def discrimination(found: Document, palette: Palette) -> Figure:
    """AUC with its interval: the model and its baselines on all knees, then the model in every group.

    Those whose AUC cannot be told are left out.
    """
    rows: list[tuple[str, Mapping[str, Any], str]] = []
    for name, figures in found["overall"]["scores"].items():
        rows.append((name, figures["auc"], palette.main if name == "model" else palette.other))
    for group in found["subgroups"]:
        name = f"{group['family']} {group['value']} ({group['events']}/{group['knees']})"
        rows.append((name, group["scores"]["model"]["auc"], palette.main))
    rows = [row for row in rows if row[1]["value"] is not None]
    figure = new_figure(7.0, 0.9 + 0.27 * len(rows))
    drawn = axes(figure, palette)
    for place, (_, auc, colour) in enumerate(rows):
        if auc["low"] is not None and auc["high"] is not None:
            drawn.hlines(place, auc["low"], auc["high"], color=colour, linewidth=1.6)
        drawn.plot(auc["value"], place, "o", color=colour, markersize=5)
    drawn.axvline(0.5, color=palette.muted, linestyle="--", linewidth=1.2)
    drawn.set_yticks(range(len(rows)), [short(name, 40) for name, _, _ in rows])
    drawn.set_ylim(len(rows) - 0.4, -0.6)
    drawn.grid(axis="y", visible=False)
    drawn.grid(axis="x", color=palette.grid, linewidth=0.8)
    drawn.set_xlabel("AUC; 0.5 is chance; events/knees in brackets")
    return figure
