"""``kneerisk validate``."""

from __future__ import annotations

from typing import NoReturn

import typer

from kneerisk.cli import options as o
from kneerisk.cli import show
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.settings import RunSettings, StackSettings


@o.takes(
    data=InputSettings,
    networks=(StackSettings, ("stack",)),
    run=(RunSettings, ("shard", "limit", "workers", "timeout")),
)
def validate(
    data: InputSettings,
    networks: StackSettings,
    run: RunSettings,
    progress: o.ShowProgress = True,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read every file and look for its knees as score would: what would be scored, refused, and why."""
    walk(data, networks, run, progress=progress and not quiet, as_json=json, quiet=quiet)


def walk(
    data: InputSettings,
    networks: StackSettings,
    run: RunSettings,
    *,
    progress: bool,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    """Validate, show the outcome, and leave with its exit code."""
    from kneerisk.scoring.cohort import validate_cohort

    with show.interruptible("Stopped; validate writes nothing."):
        found = show.validating(validate_cohort(data, networks, run), progress)
    show.validation(found, as_json=as_json, quiet=quiet)
    raise typer.Exit(int(found.exit_code))
