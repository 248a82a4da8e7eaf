"""``kneerisk compile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo

_BUILD, _CHECK = "Build", "Verification"


def compile_(
    stack: o.StackName = "compact",
    flavour: Annotated[
        Literal["tensorrt", "tensorrt-rtx"],
        typer.Option(help="TensorRT, or TensorRT-RTX, which builds without a GPU."),
    ] = "tensorrt",
    precision: Annotated[
        Literal["fp32", "fp16", "bf16"],
        typer.Option(help="Of the large operations; softmax, norms and the codebook stay in float32."),
    ] = "fp16",
    min_batch: Annotated[int, typer.Option(min=1, rich_help_panel=_BUILD)] = 1,
    opt_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The batch it is fastest at; default: the stack's own.",
            rich_help_panel=_BUILD,
            show_default=False,
        ),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, rich_help_panel=_BUILD)] = 32,
    gpu: Annotated[
        str,
        typer.Option(
            metavar="current|portable|sm80,sm89,…",
            help="For this machine's GPU, for any that TensorRT-RTX knows, or for the chips listed.",
            rich_help_panel=_BUILD,
        ),
    ] = "current",
    hw_compat: Annotated[
        Literal["none", "same-cc", "ampere-plus"],
        typer.Option(help="TensorRT only: run on more chips, slower.", rich_help_panel=_BUILD),
    ] = "none",
    timing_cache: Annotated[
        bool,
        typer.Option(
            "--timing-cache/--no-timing-cache",
            help="TensorRT only: keep what was timed for the next build.",
            rich_help_panel=_BUILD,
        ),
    ] = True,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="TensorRT only: the same plan again.", rich_help_panel=_BUILD),
    ] = False,
    with_decoder: Annotated[
        bool, typer.Option("--with-decoder", help="The decoder too, for previews.", rich_help_panel=_BUILD)
    ] = False,
    onnx_only: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write the typed ONNX graphs there, and build nothing.",
            rich_help_panel=_BUILD,
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Build what the cache has, too.", rich_help_panel=_BUILD)
    ] = False,
    verify_data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Radiographs to verify the engines on; default: simulated ones.",
            rich_help_panel=_CHECK,
            show_default=False,
        ),
    ] = None,
    json: o.Json = False,
) -> None:
    """Compile a stack's networks to TensorRT engines, verify them where a GPU is, and keep them in the cache.

    An engine is built once for its weights, shapes, precision, TensorRT version and GPU. One that was built
    without a GPU is verified by the same command on the machine that will run it.
    """
    from kneerisk_engines.plain import to_plain

    from kneerisk.cli import show
    from kneerisk.compile.build import CompileSettings, compile_stack

    settings = CompileSettings(
        stack=stack,
        flavour=flavour,
        precision=precision,
        min_batch=min_batch,
        opt_batch=opt_batch,
        max_batch=max_batch,
        gpu=gpu,
        hardware_compatibility=hw_compat,
        timing_cache=timing_cache,
        deterministic=deterministic,
        with_decoder=with_decoder,
        onnx_only=onnx_only,
        force=force,
        verify_data=verify_data,
    )
    outcomes = []
    for outcome in compile_stack(settings):
        outcomes.append(outcome)
        if not json:
            echo(outcome.in_words())
    if json:
        show.print_json([to_plain(outcome) for outcome in outcomes])
