"""The commands, one file each; those of other packages come by :mod:`kneerisk.cli.plugins`."""

from __future__ import annotations

from typing import Annotated

import typer

from kneerisk.cli import (
    columns,
    doctor,
    engines,
    merge,
    score,
    simulate,
    stack,
    validate,
    watch,
)
from kneerisk.cli import compile as compile_command
from kneerisk.cli.plugins import CommandGroup
from kneerisk.cli.study import calibrate, derive, enrich, evaluate, report

app = typer.Typer(
    cls=CommandGroup,
    help="Score cohorts of knee radiographs for the risk that knee osteoarthritis progresses within "
    "12 months. Research software, no medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from kneerisk.version import __version__

        typer.echo(f"kneerisk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Options before the command."""


app.command("score")(score.score)
app.command("watch")(watch.watch)
app.command("validate")(validate.validate)
app.command("merge")(merge.merge)
app.command("derive")(derive.derive)
app.command("evaluate")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("enrich")(enrich.enrich)
app.command("report")(report.report)
app.command("simulate")(simulate.simulate)
app.command("columns")(columns.columns)
app.command("compile")(compile_command.compile_)
app.command("doctor")(doctor.doctor)
app.add_typer(stack.app, name="stack")
app.add_typer(engines.app, name="engines")
