"""``kneerisk enrich``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.study.derive import OutcomeChoice

if TYPE_CHECKING:
    from kneerisk.study.enrichment.selection import Rule

_WHOM, _TRIAL, _OUT = "Whom to enrol (one of the four)", "Trial", "Outputs"


def enrich(
    table: Annotated[
        Path, typer.Argument(metavar="FILE", help="A table of score or derive.", show_default=False)
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Readers' grades, which tell who had the outcome; without them the rates are assumed.",
            show_default=False,
        ),
    ] = None,
    risk: Annotated[str, typer.Option(metavar="COLUMN", help="What candidates are ranked by.")] = "risk_12m",
    outcome: Annotated[
        OutcomeChoice | None,
        typer.Option(help="What the column is a risk of, where its name does not say.", show_default=False),
    ] = None,
    months: Annotated[
        int | None, typer.Option(min=1, help="Within how many months.", show_default=False)
    ] = None,
    visit: Annotated[
        str | None,
        typer.Option(help="The visit of the screening, where there are several.", show_default=False),
    ] = None,
    one_knee: Annotated[
        bool,
        typer.Option(
            "--one-knee-per-participant", help="Enrol people: each counts by the knee at the highest risk."
        ),
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(help="Everybody at or above a risk.", rich_help_panel=_WHOM)
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="So many at the highest risk.", rich_help_panel=_WHOM)
    ] = None,
    top_fraction: Annotated[
        float | None, typer.Option(help="A share at the highest risk.", rich_help_panel=_WHOM)
    ] = None,
    recruit: Annotated[
        int | None,
        typer.Option(
            help="A recruitment target, to be met from these or from --screen.", rich_help_panel=_WHOM
        ),
    ] = None,
    screen: Annotated[
        int | None,
        typer.Option(help="How many like these will be screened for --recruit.", rich_help_panel=_WHOM),
    ] = None,
    effect: Annotated[
        float, typer.Option(help="Relative reduction of the event rate to detect.", rich_help_panel=_TRIAL)
    ] = 0.3,
    power: Annotated[float, typer.Option(help="Chance to detect it.", rich_help_panel=_TRIAL)] = 0.8,
    alpha: Annotated[float, typer.Option(help="Of the two-sided test.", rich_help_panel=_TRIAL)] = 0.05,
    dropout: Annotated[
        float, typer.Option(help="Share lost before the outcome is read.", rich_help_panel=_TRIAL)
    ] = 0.0,
    cost_screen: Annotated[
        float | None, typer.Option(help="Of screening one candidate.", rich_help_panel=_TRIAL)
    ] = None,
    cost_enrolled: Annotated[
        float | None,
        typer.Option(help="Of one who is enrolled, for the whole trial.", rich_help_panel=_TRIAL),
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="Resamples of participants; 0: no intervals.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The list of those selected: .csv or .parquet.", rich_help_panel=_OUT
        ),
    ] = None,
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Every figure over thresholds: .csv or .parquet.", rich_help_panel=_OUT
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The curve: .svg or .png.", rich_help_panel=_OUT)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    allow_unmatched: Annotated[
        bool, typer.Option("--allow-unmatched", help="Go on where labelled knees were not scored.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Assume rates although the run raised an alarm.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Trial enrichment: whom to enrol, the event rate, the number to screen, the sample size, the cost."""
    from kneerisk.cli import show
    from kneerisk.cli.study import show_enrichment
    from kneerisk.study.enrichment.enrich import enrich
    from kneerisk.study.enrichment.sample_size import Trial
    from kneerisk.study.enrichment.settings import EnrichSettings
    from kneerisk.study.outcomes import Outcome

    settings = EnrichSettings(
        table=table,
        labels=labels,
        risk=risk,
        rule=_rule(threshold, top, top_fraction, recruit, screen),
        trial=Trial(effect, power, alpha, dropout, cost_screen, cost_enrolled),
        one_knee=one_knee,
        visit=visit,
        outcome=None if outcome is None else Outcome(outcome.value),
        months=months,
        bootstrap=bootstrap,
        confidence=confidence,
        seed=seed,
        out=out,
        curve=curve,
        plot=plot,
        allow_unmatched=allow_unmatched,
        overwrite=overwrite,
        force=force,
    )
    found = enrich(settings)
    if json:
        show.print_json(found.to_json())
    elif not quiet:
        show_enrichment.show(found, [path for path in (out, curve, plot) if path is not None])


def _rule(
    threshold: float | None,
    top: int | None,
    top_fraction: float | None,
    recruit: int | None,
    screen: int | None,
) -> Rule | None:
    """The one of the four that was given."""
    from kneerisk.errors import UsageError
    from kneerisk.study.enrichment.selection import Rule

    options = {"threshold": threshold, "top": top, "top-fraction": top_fraction, "recruit": recruit}
    given = {name: value for name, value in options.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join('--' + name for name in given)} say whom to enrol: give one of them")
    if not given:
        if screen is not None:
            raise UsageError("--screen says how many --recruit is drawn from: give both, or neither")
        return None
    ((kind, value),) = given.items()
    return Rule(kind, float(value), screen)  # type: ignore[arg-type]
