"""``kneerisk score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli import show
from kneerisk.cli.screen import events
from kneerisk.errors import UsageError
from kneerisk.places.place import is_remote
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.settings import RunSettings, StackSettings, check_places

DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Look for knees, score nothing, write nothing.", rich_help_panel="Run"),
]

Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        help="A page on the run, the cohort and its knees; see kneerisk report.",
        rich_help_panel="Outputs",
        show_default=False,
    ),
]


@o.takes(data=InputSettings, networks=StackSettings, run=RunSettings)
def score(
    data: InputSettings,
    networks: StackSettings,
    run: RunSettings,
    report: Report = None,
    dry_run: DryRun = False,
    progress: o.ShowProgress = True,
    json: o.Json = False,
    log_format: o.LogFormat = "text",
    quiet: o.Quiet = False,
) -> None:
    """Score a folder, files or a manifest: one row for each knee, refusals included."""
    events.choose(log_format)
    page = None
    if report is not None:
        from kneerisk.study.report.write import ReportSettings, check_report

        if is_remote(run.out):
            raise UsageError("--report reads the table: score to a file of this machine, and copy it")
        again = run.overwrite or run.resumes
        page = ReportSettings(run.out, report, previews=run.previews, roots=data.inputs, overwrite=again)
        check_places(data, run, {"--report": report})
        check_report(page)
    wants_progress = progress and not quiet
    if dry_run:
        if run.runner == "ray":
            raise UsageError("--dry-run looks at the files from this machine: leave --runner ray out")
        from kneerisk.cli.validate import walk

        walk(data, networks, run, progress=wants_progress, as_json=json, quiet=quiet)
    from kneerisk.scoring.cohort import score_cohort

    events.say("started", out=str(run.out), shard=str(run.shard), resume=run.resumes)
    with show.interruptible(f"Stopped. Every finished row is kept: add --resume to go on with {run.out}."):
        summary = show.scoring(score_cohort(data, networks, run), wants_progress)
    show.summary(summary, as_json=json, quiet=quiet)
    if page is not None:
        from kneerisk.cli.study.report import after_scoring

        after_scoring(page, summary, quiet=quiet or json)
    raise typer.Exit(int(summary.exit_code))
