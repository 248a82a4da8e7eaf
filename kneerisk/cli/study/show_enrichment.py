"""What ``kneerisk enrich`` shows: alarms and cautions, the trial beside no enrichment, the curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kneerisk.cli.show import escaped
from kneerisk.study.enrichment.enrich import Enrichment
from kneerisk.study.enrichment.screening import Point
from kneerisk.study.results import Figure

_SHARES = (1.0, 0.75, 0.5, 0.25, 0.1, 0.05)
_WIDTH = 200
"""Rather a line that a narrow terminal breaks than a number that it cuts."""


def show(found: Enrichment, written: Sequence[Path]) -> None:
    """An enrichment, for a person."""
    out = Console()
    for alarm in found.alarms:
        out.print(f"[bold red]alarm:[/] {escaped(alarm.message)}", soft_wrap=True, highlight=False)
    for note in found.notes:
        out.print(f"[yellow]note:[/] {escaped(note)}", soft_wrap=True, highlight=False)
    of_people = f" of {_number(found.participants)} participants" if found.unit == "knees" else ""
    out.print(
        f"[bold]{_number(found.candidates)} {found.unit}[/]{of_people} could be enrolled, ranked by "
        f"{escaped(found.risk)}: {found.outcome.words} within {found.months} months",
        soft_wrap=True,
        highlight=False,
    )
    if found.left_out:
        listed = ", ".join(f"{escaped(why)} {_number(count)}" for why, count in found.left_out.items())
        out.print(f"  [dim]left out:[/] {listed}", soft_wrap=True, highlight=False)
    trial = found.trial
    lost = f", {100 * trial.dropout:g} % lost" if trial.dropout else ""
    out.print(
        f"  [dim]trial:[/] to see {100 * trial.effect:g} % fewer events with {100 * trial.power:g} % power, "
        f"two-sided alpha {trial.alpha:g}{lost}",
        soft_wrap=True,
        highlight=False,
    )
    if found.chosen is not None:
        _beside(out, found, found.chosen)
    _curve(out, found)
    for path in written:
        out.print(f"[bold]{escaped(str(path))}[/] written", soft_wrap=True, highlight=False)
    out.print("Research software, no medical device.", style="dim")


def _beside(out: Console, found: Enrichment, chosen: Point) -> None:
    everybody = found.nobody_enriched
    out.print(
        f"\n[bold]Enrol {escaped(found.rule or '')}[/]: risk ≥ {chosen.threshold:.4f}, "
        f"{_number(chosen.selected)} {found.unit}, {100 * chosen.share:.1f} % of the candidates",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for name in ("enriched", "no enrichment"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [("event rate, " + found.basis, chosen.event_rate, everybody.event_rate, _percent)]
    if found.basis == "observed" and chosen.predicted_rate.value is not None:
        rows.append(("  the risks promised", chosen.predicted_rate, everybody.predicted_rate, _percent))
    rows += [
        ("share of all events", chosen.captured, everybody.captured, _percent),
        (
            "screened for one enrolled",
            chosen.number_needed_to_screen,
            everybody.number_needed_to_screen,
            _ratio,
        ),
        ("sample size an arm", chosen.per_arm, everybody.per_arm, _whole),
        ("to enrol", chosen.enrolled, everybody.enrolled, _whole),
    ]
    for name, mine, all_, written in rows:
        table.add_row(name, written(mine), written(all_))
    table.add_row("to screen", _whole(chosen.screened), "-")
    if chosen.cost.value is not None:
        table.add_row("cost", _money(chosen.cost), _money(everybody.cost))
    Console(width=_WIDTH).print(table)
    for figure in (chosen.event_rate, everybody.event_rate):
        if figure.reason:
            out.print(f"  [dim]-:[/] {escaped(figure.reason)}", highlight=False)
    if found.break_even is not None:
        out.print(
            f"  cheaper than no enrichment where enrolling one costs more than {found.break_even:.1f} times "
            "screening one",
            soft_wrap=True,
            highlight=False,
        )
    elif chosen.enrolled.value is not None:
        out.print("  it needs no smaller trial than no enrichment: nothing is gained", highlight=False)


def _curve(out: Console, found: Enrichment) -> None:
    shown = [min(found.curve, key=partial(_distance, share)) for share in _SHARES]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("enrol", "risk from", "event rate", "of events", "an arm", "screen"):
        table.add_column(name, justify="right", no_wrap=True)
    costs = found.trial.has_costs
    if costs:
        table.add_column("cost", justify="right", no_wrap=True)
    for point in dict.fromkeys(shown):
        cells = [
            f"{100 * point.share:.0f} %",
            f"{point.threshold:.4f}",
            _percent(point.event_rate),
            _percent(Figure(point.captured.value)),
            _whole(Figure(point.per_arm.value)),
            _whole(Figure(point.screened.value)),
        ]
        table.add_row(*cells, *([_money(Figure(point.cost.value))] if costs else []))
    out.print("\n[bold]By threshold[/]")
    Console(width=_WIDTH).print(table)


def _distance(share: float, point: Point) -> float:
    return abs(point.share - share)


def _percent(figure: Figure) -> str:
    return _with_interval(figure, lambda value: f"{100 * value:.1f}", " %")


def _ratio(figure: Figure) -> str:
    return _with_interval(figure, lambda value: f"{value:.1f}")


def _whole(figure: Figure) -> str:
    return _with_interval(figure, _number)


def _money(figure: Figure) -> str:
    return _with_interval(figure, lambda value: _number(float(f"{value:.3g}")))


def _with_interval(figure: Figure, write: Callable[[float], str], unit: str = "") -> str:
    if figure.value is None:
        return "-"
    if figure.low is None and figure.high is None:
        return write(figure.value) + unit
    low, high = ("∞" if end is None else write(end) for end in (figure.low, figure.high))
    return f"{write(figure.value)}{unit} ({low} to {high})"


def _number(value: float) -> str:
    return f"{round(value):,}".replace(",", " ")
