"""``kneerisk validate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from kneerisk.cli import options as o

if TYPE_CHECKING:
    from kneerisk.radiograph.settings import InputSettings
    from kneerisk.scoring.settings import RunSettings, StackSettings


def validate(
    inputs: o.Inputs,
    side: o.Side = o.SideChoice.AUTO,
    id_from: o.IdFrom = "tag",
    spacing_mm: o.SpacingMm = None,
    invert: o.Invert = o.InvertChoice.AUTO,
    stack: o.StackName = "compact",
    shard: o.ShardText = "1/1",
    limit: o.Limit = None,
    workers: o.Workers = None,
    timeout: o.Timeout = None,
    progress: o.ShowProgress = True,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read every file and look for its knees as score would: what would be scored, refused, and why."""
    from kneerisk.scoring.settings import RunSettings, StackSettings

    data = o.input_settings(inputs, side, id_from, spacing_mm, invert)
    run = RunSettings(
        Path("none.parquet"), shard=o.shard(shard), limit=limit, timeout=timeout, workers=o.workers(workers)
    )
    walk(data, StackSettings(stack=stack), run, progress=progress and not quiet, as_json=json, quiet=quiet)


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
    from kneerisk.cli import show
    from kneerisk.scoring.cohort import validate_cohort

    with show.interruptible("Stopped; validate writes nothing."):
        found = show.validating(validate_cohort(data, networks, run), progress)
    show.validation(found, as_json=as_json, quiet=quiet)
    raise typer.Exit(int(found.exit_code))
