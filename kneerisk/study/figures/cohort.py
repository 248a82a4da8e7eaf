"""Plots of a scored cohort: the risks, the grades, and both by site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kneerisk.study.figures.style import Palette, axes, count_axis, legend, new_figure, percent_axis, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]


def risk_histogram(risk: Array, palette: Palette) -> Figure:
    """How the risks are spread, with their mean and median."""
    figure = new_figure(7.0, 3.0)
    found = axes(figure, palette)
    top = float(max(np.quantile(risk, 0.999), 0.02))
    found.hist(np.minimum(risk, top), bins=np.linspace(0, top, 41).tolist(), color=palette.main, alpha=0.85)
    for value, style, word in ((risk.mean(), "-", "mean"), (np.median(risk), ":", "median")):
        found.axvline(
            float(value),
            color=palette.other,
            linestyle=style,
            linewidth=1.6,
            label=f"{word} {100 * value:.1f} %",
        )
    percent_axis(found.xaxis)
    found.set_xlabel("12-month risk")
    found.set_ylabel("knees")
    count_axis(found.yaxis)
    legend(found, palette, "upper right")
    return figure


def grade_bars(counts: Mapping[str, Sequence[int]], palette: Palette) -> Figure:
    """Knees of each KL grade, by who graded them.

    Args:
        counts: "image" or "reader" → five counts.
        palette: colours.
    """
    figure = new_figure(7.0, 2.8)
    found = axes(figure, palette)
    width = 0.8 / len(counts)
    for place, (who, grades) in enumerate(counts.items()):
        left = np.arange(5) + (place - (len(counts) - 1) / 2) * width
        total = sum(grades)
        bars = found.bar(
            left, grades, width * 0.92, color=(palette.main, palette.other)[place], label=f"by the {who}"
        )
        labels = [f"{100 * n / total:.0f} %" if total else "" for n in grades]
        found.bar_label(bars, labels, padding=2, fontsize=8, color=palette.muted)
    found.set_xticks(range(5), [f"KL {grade}" for grade in range(5)])
    found.set_ylabel("knees")
    count_axis(found.yaxis)
    if len(counts) > 1:
        legend(found, palette, "upper right")
    return figure


def risk_by_group(groups: Mapping[str, Array], palette: Palette, label: str) -> Figure:
    """Median, quartiles and middle 90 % of the risk in each group, its mean as a dot.

    Args:
        groups: name → the risks of its knees, at least one each; drawn from the top.
        palette: colours.
        label: what the groups are.
    """
    figure = new_figure(7.0, 0.9 + 0.34 * len(groups))
    found = axes(figure, palette)
    for place, risk in enumerate(groups.values()):
        low, first, middle, third, high = np.quantile(risk, (0.05, 0.25, 0.5, 0.75, 0.95))
        found.hlines(place, low, high, color=palette.muted, linewidth=1.2)
        found.barh(place, third - first, 0.52, left=first, color=palette.main, alpha=0.45)
        found.vlines(middle, place - 0.26, place + 0.26, color=palette.main, linewidth=2)
        found.plot(risk.mean(), place, "o", color=palette.other, markersize=5)
    found.set_yticks(range(len(groups)), [f"{short(name)} ({len(risk)})" for name, risk in groups.items()])
    found.set_ylim(len(groups) - 0.4, -0.6)
    found.set_xlim(left=0)
    found.grid(axis="y", visible=False)
    found.grid(axis="x", color=palette.grid, linewidth=0.8)
    percent_axis(found.xaxis)
    found.set_xlabel(f"12-month risk by {label}; number of knees in brackets")
    return figure


def grades_by_group(groups: Mapping[str, Sequence[int]], palette: Palette, label: str) -> Figure:
    """Share of each KL grade in each group, as one bar.

    Args:
        groups: name → five counts, not all zero.
        palette: colours.
        label: what the groups are.
    """
    figure = new_figure(7.0, 1.2 + 0.34 * len(groups))
    found = axes(figure, palette)
    for place, counts in enumerate(groups.values()):
        shares = np.asarray(counts, np.float64) / sum(counts)
        starts = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
        for grade in range(5):
            found.barh(place, shares[grade], 0.62, left=starts[grade], color=palette.grades[grade],
                       label=f"KL {grade}" if place == 0 else None)  # fmt: skip
    found.set_yticks(range(len(groups)), [short(name) for name in groups])
    found.set_ylim(len(groups) - 0.4, -0.6)
    found.set_xlim(0, 1)
    found.grid(visible=False)
    percent_axis(found.xaxis)
    found.set_xlabel(f"share of the knees, by {label}")
    drawn = figure.legend(
        loc="outside upper center", ncols=5, frameon=False, fontsize=9, labelcolor=palette.ink
    )
    drawn.set_zorder(5)
    return figure
