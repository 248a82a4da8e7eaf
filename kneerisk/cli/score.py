"""``kneerisk score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kneerisk.cli import options as o

_STACK, _RUN, _OUT = "Stack", "Run", "Outputs"


def score(
    inputs: o.Inputs,
    out: Annotated[
        Path, typer.Option(help="The table to write: .parquet or .csv.", rich_help_panel=_OUT)
    ] = Path("risks.parquet"),
    previews: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A picture of each knee and its forecast.", rich_help_panel=_OUT),
    ] = None,
    futures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.h5", help="Latents and forecast pictures of each knee.", rich_help_panel=_OUT
        ),
    ] = None,
    run_report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="Settings, versions, counts, time of each stage.", rich_help_panel=_OUT
        ),
    ] = None,
    side: o.Side = o.SideChoice.AUTO,
    id_from: o.IdFrom = "tag",
    spacing_mm: o.SpacingMm = None,
    invert: o.Invert = o.InvertChoice.AUTO,
    stack: o.StackName = "compact",
    backend: o.Backend = o.BackendChoice.AUTO,
    engine_policy: o.EnginePolicy = None,
    precision: o.Precision = o.PrecisionChoice.AUTO,
    device: o.Device = "cpu",
    batch_size: Annotated[
        int,
        typer.Option(
            help="Knees that go through the networks together; no row depends on it.", rich_help_panel=_STACK
        ),
    ] = 16,
    steps: Annotated[
        int | None, typer.Option(help="Sampler steps; default: the stack's.", rich_help_panel=_STACK)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Futures sampled for each knee; default: the stack's.", rich_help_panel=_STACK),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="What the futures' noise is drawn from; compare tables of one seed only.",
            rich_help_panel=_STACK,
        ),
    ] = 0,
    upscale: Annotated[
        bool,
        typer.Option("--upscale", help="Score the centre of each crop upscaled 2×.", rich_help_panel=_STACK),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an earlier run stopped.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw an earlier table or run away.", rich_help_panel=_RUN)
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Keep an earlier run's rows but score failed ones again.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    on_error: Annotated[
        o.OnErrorChoice, typer.Option(help="What a failed row does to the run.", rich_help_panel=_RUN)
    ] = o.OnErrorChoice.CONTINUE,
    shard: o.ShardText = "1/1",
    limit: o.Limit = None,
    workers: o.Workers = None,
    timeout: o.Timeout = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Look for knees, score nothing, write nothing.", rich_help_panel=_RUN),
    ] = False,
    progress: o.ShowProgress = True,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Score a folder, files or a manifest: one row for each knee, refusals included."""
    from kneerisk.cli import show
    from kneerisk.scoring.settings import RunSettings, StackSettings

    data = o.input_settings(inputs, side, id_from, spacing_mm, invert)
    networks = StackSettings(
        stack=stack,
        backend=backend.value,
        engine_policy=None if engine_policy is None else engine_policy.value,
        precision=precision.value,
        device=device,
        steps=steps,
        samples=samples,
        seed=seed,
        upscale=upscale,
    )
    run = RunSettings(
        out=out,
        resume=resume,
        overwrite=overwrite,
        retry_failed=retry_failed,
        on_error=on_error.value,
        shard=o.shard(shard),
        limit=limit,
        timeout=timeout,
        batch_size=batch_size,
        previews=previews,
        futures=futures,
        run_report=run_report,
        workers=o.workers(workers),
    )
    wants_progress = progress and not quiet
    if dry_run:
        from kneerisk.cli.validate import walk

        walk(data, networks, run, progress=wants_progress, as_json=json, quiet=quiet)
    from kneerisk.scoring.cohort import score_cohort

    with show.interruptible(f"Stopped. Every finished row is kept: add --resume to go on with {out}."):
        summary = show.scoring(score_cohort(data, networks, run), wants_progress)
    show.summary(summary, as_json=json, quiet=quiet)
    raise typer.Exit(int(summary.exit_code))
