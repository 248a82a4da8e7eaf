"""The plot of trial enrichment: what enrolling fewer at a higher risk gains and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kneerisk.study.figures.style import Palette, axes, count_axis, legend, new_figure, percent_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def enrichment_curve(found: Mapping[str, Any], palette: Palette) -> Figure:
    """Event rate with its interval, and how many to enrol and to screen, over the share enrolled.

    Args:
        found: :meth:`kneerisk.study.enrichment.enrich.Enrichment.to_json`.
        palette: colours.
    """
    points = sorted(found["curve"], key=lambda point: point["share"])
    shares = [point["share"] for point in points]
    figure = new_figure(7.4, 3.3)
    rate, size = (axes(figure, palette, 1, 2, place) for place in (1, 2))
    _line(rate, shares, [point["event_rate"] for point in points], palette.main, found["basis"])
    if found["basis"] == "observed" and any(p["predicted_rate"]["value"] is not None for p in points):
        promised = [point["predicted_rate"]["value"] for point in points]
        rate.plot(
            shares,
            promised,
            color=palette.other,
            linestyle="--",
            linewidth=1.6,
            label="promised by the risks",
        )
    rate.set_ylim(bottom=0)
    percent_axis(rate.yaxis)
    rate.set_title("event rate of those enrolled", fontsize=10, loc="left", color=palette.ink)
    for name, colour in (("screened", palette.other), ("enrolled", palette.main)):
        _line(size, shares, [point[name] for point in points], colour, f"to be {name}")
    size.set_yscale("log")
    count_axis(size.yaxis)
    size.minorticks_off()
    size.set_title("size of the trial", fontsize=10, loc="left", color=palette.ink)
    for each in (rate, size):
        percent_axis(each.xaxis)
        each.set_xlim(0, 1)
        each.set_xlabel(f"share of the {found['unit']} enrolled")
        if found["chosen"] is not None:
            each.axvline(found["chosen"]["share"], color=palette.muted, linestyle=":", linewidth=1.4)
        legend(each, palette, "upper right")
    return figure


def _line(
    found: Axes, shares: Sequence[float], figures: Sequence[Mapping[str, Any]], colour: str, label: str
) -> None:
    """Values with their intervals; open ends and missing values leave gaps."""
    nan = float("nan")

    def part(name: str) -> list[float]:
        return [nan if figure[name] is None else float(figure[name]) for figure in figures]

    found.fill_between(shares, part("low"), part("high"), color=colour, alpha=0.18, linewidth=0)
    found.plot(shares, part("value"), color=colour, linewidth=2, label=label)
