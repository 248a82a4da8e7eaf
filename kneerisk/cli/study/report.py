"""``kneerisk report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo
from kneerisk.printable import printable

if TYPE_CHECKING:
    from kneerisk.scoring.outputs.summary import Summary
    from kneerisk.study.report.write import Report, ReportSettings

_FOUND, _SHOWN, _OUT = "What was found with the table", "What is shown", "Outputs"


def report(
    table: Annotated[
        Path, typer.Argument(metavar="FILE", help="A table of score or derive.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The page to write: .html.", rich_help_panel=_OUT)] = Path(
        "report.html"
    ),
    labels: Annotated[
        Path | None,
        typer.Option(help="Readers' grades: evaluate risk_12m by them.", rich_help_panel=_FOUND),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What evaluate found.", rich_help_panel=_FOUND),
    ] = None,
    enrichment: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What enrich --json printed.", rich_help_panel=_FOUND),
    ] = None,
    previews: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The pictures that score --previews kept.", rich_help_panel=_SHOWN),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that was scored, where it has moved since.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Tell its values apart; default: site.", rich_help_panel=_SHOWN),
    ] = None,
    knees: Annotated[
        int, typer.Option(help="Knees in each strip of the contact sheet.", rich_help_panel=_SHOWN)
    ] = 6,
    title: Annotated[str | None, typer.Option(help="Of the page.", rich_help_panel=_SHOWN)] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Plots as .svg and .png, numbers as .csv, too.", rich_help_panel=_OUT
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it is there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """One self-contained page: the run and its alarms, the cohort, its knees, what was found, TRIPOD+AI."""
    from kneerisk.study.report.write import ReportSettings, write_report

    settings = ReportSettings(
        table=table,
        out=out,
        title=title,
        labels=labels,
        evaluation=evaluation,
        enrichment=enrichment,
        previews=previews,
        sources=sources,
        by=by,
        knees=knees,
        files=files,
        overwrite=overwrite,
    )
    tell(write_report(settings), as_json=json, quiet=quiet)


def after_scoring(page: ReportSettings, summary: Summary, *, quiet: bool) -> None:
    """``score --report``: the page of a run that has just ended, where it scored any knee."""
    from kneerisk.study.report.write import write_report

    if summary.ok:
        tell(write_report(page), as_json=False, quiet=quiet)
    else:
        echo(f"{page.out} was not written: no knee was scored", err=True)


def tell(found: Report, *, as_json: bool, quiet: bool) -> None:
    """What was written, and what must be known of it."""
    from kneerisk.cli import show

    if as_json:
        show.print_json(found.to_json())
    if as_json or quiet:
        return
    for alarm in found.alarms:
        typer.secho(f"alarm: {printable(alarm.message)}", fg="red", bold=True)
    for note in found.notes:
        typer.secho(f"note: {printable(note)}", fg="yellow")
    echo(
        f"{found.out}: {found.facts.scored} knees, {found.facts.refused + found.facts.failed} rows without a "
        f"score, {found.pictures} pictures; it needs no network"
    )
    if found.files:
        echo(f"{len(found.files)} files beside it in {found.files[0].parent}")
    echo("Research software, no medical device.")
