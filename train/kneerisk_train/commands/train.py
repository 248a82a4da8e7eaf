"""Train a stack on a prepared cohort, stage by stage, and publish it. Needs the extra 'train'."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from kneerisk_train.run.session import Session

app = typer.Typer(
    help="Train a stack on a prepared cohort, stage by stage, and publish it. Needs the extra 'train'.",
    no_args_is_help=True,
    add_completion=False,
)

Data = Annotated[
    Path,
    typer.Option(metavar="DIR", help="What kneerisk prepare wrote.", show_default=False),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="The run: weights, checkpoints, logs, pictures; an unfinished stage found there goes on.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="reference, compact, debug, or a YAML file.")
]
Init = Annotated[
    str | None,
    typer.Option(metavar="STACK", help="Start from a published stack's weights.", show_default=False),
]
Rates = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="How grades move in 12 months (months, kl_now, p_kl0 … p_kl4); default: the cohort's own pairs.",
        show_default=False,
    ),
]
EquationsFile = Annotated[
    Path | None,
    typer.Option(
        "--equations",
        metavar="FILE",
        help="Of the outcome, in the layout of a stack's outcomes.json: which knees rise, where nobody was "
        "radiographed twice; default: compact's.",
        show_default=False,
    ),
]
CheckpointMinutes = Annotated[float, typer.Option(min=0.0, help="Between checkpoints.")]


class Accelerator(StrEnum):
    """``--accelerator``."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """``--precision``."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


AcceleratorOption = Annotated[Accelerator, typer.Option(help="Where it computes; several GPUs: torchrun.")]
PrecisionOption = Annotated[Precision, typer.Option(help="Of the arithmetic; weights stay float32.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the resolved recipe, sizes and memory; train nothing.")
]


def _stage(name: str, summary: str) -> None:
    def command(
        data: Data,
        out: Out,
        recipe: RecipeName = "reference",
        init: Init = None,
        rates: Rates = None,
        equations: EquationsFile = None,
        accelerator: AcceleratorOption = Accelerator.AUTO,
        precision: PrecisionOption = Precision.AUTO,
        checkpoint_minutes: CheckpointMinutes = 2.0,
        dry_run: DryRun = False,
    ) -> None:
        if dry_run:
            _tell_plan(recipe)
            return
        session = _open(
            data, out, recipe, init, rates, equations, accelerator, precision, checkpoint_minutes, name
        )
        from kneerisk_train.stages.order import run

        with _interruptible(out):
            run(name, session)
        if session.fabric.is_global_zero:
            typer.echo(f"{name}: done; weights, losses and pictures are in {out}")

    command.__doc__ = summary
    app.command(name, help=summary)(command)


_stage("teacher", "Networks without codes, whose reading of the grades stage 1 learns.")
_stage("vqvae", "Stage 1: the VQ-VAE, with an auxiliary grade head.")
_stage("decoder", "The decoder alone, on stage 1's codes, for sharper pictures.")
_stage("diffusion", "Stage 2: the U-Net that forecasts the latent.")
_stage("classifier", "Stage 3: the classifiers of the grade now and at 12 months.")
_stage("localiser", "The localiser, on films composed of the knees and of simulated radiographs.")
_stage("all", "Every stage of the recipe, in order.")


_OF_ALL_STAGES = ("rates", "steps", "terms", "population", "force")


@app.command()
def publish(
    context: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run.", show_default=False)],
    stack: Annotated[Path, typer.Option(metavar="DIR", help="Where the stack goes.", show_default=False)],
    rates: Rates = None,
    name: Annotated[
        str | None, typer.Option(help="Of the stack; default: its folder's.", show_default=False)
    ] = None,
    version: Annotated[str, typer.Option(help="Of the stack.")] = "0.1.0",
    steps: Annotated[int, typer.Option(min=1, help="Sampler steps that scoring takes.")] = 2,
    terms: Annotated[
        str | None,
        typer.Option(
            help="What the weights were trained on, and what may be done with them.", show_default=False
        ),
    ] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A card of your own instead of the measured one.", show_default=False
        ),
    ] = None,
    population: Annotated[
        str | None,
        typer.Option(help="Whose rates --rates are, in words.", show_default=False),
    ] = None,
    renew: Annotated[
        str | None,
        typer.Option(
            metavar="STACK",
            help="Publish this stack with the run's localiser, and all else as it is.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a stack that is there.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Publish even what grades at chance, or takes another population's rates."
        ),
    ] = False,
) -> None:
    """Calibrate a trained run on its val knees, measure it, and write it as a stack.

    With --renew STACK: that stack, calibration and all, with the run's localiser.
    """
    _refuse_unused(context, renew)
    run = str(_recipe_of(out))
    session = _open(data, out, run, None, rates, None, Accelerator.AUTO, Precision.AUTO, 2.0, "publish")
    card = None if model_card is None else model_card.read_text(encoding="utf-8")
    if renew is not None:
        from kneerisk.stack.stack import Stack
        from kneerisk_train.publish.renew import renew_localiser

        published = renew_localiser(
            session,
            Stack.load(renew),
            stack,
            name=name,
            version=version,
            card=card,
            overwrite=overwrite,
        )
    else:
        from kneerisk_train.publish.publish import publish as write

        published = write(
            session,
            stack,
            name=name,
            version=version,
            steps=steps,
            terms=terms,
            card=card,
            population=population,
            overwrite=overwrite,
            force=force,
        )
    typer.echo(f"{stack} is the stack {published.name}; its MODEL_CARD.md has the measured figures")
    quoted = shlex.quote(str(stack))
    typer.echo(f"score with it: kneerisk score ./cohort --stack {quoted} --out risks.parquet")
    typer.echo(f"or keep it by name: kneerisk stack import {quoted}")


def _refuse_unused(context: typer.Context, renew: str | None) -> None:
    """Options that a renewed stack keeps as they were, and that were typed all the same, are an error."""
    from kneerisk.errors import UsageError

    typed = [
        name for name in _OF_ALL_STAGES if str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    ]
    if renew is not None and typed:
        raise UsageError(
            f"--renew {renew} keeps that stack's rates, steps, terms and calibration: leave out "
            + ", ".join(f"--{name}" for name in typed)
        )


@app.command()
def experiments(
    data: Data,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The run, its stages trained.", show_default=False)
    ],
    report: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the report and its variants go.", show_default=False)
    ],
    rates: Rates = None,
    accelerator: AcceleratorOption = Accelerator.AUTO,
    precision: PrecisionOption = Precision.AUTO,
    steps: Annotated[int, typer.Option(min=1, help="Sampler steps a future.")] = 2,
) -> None:
    """Train and measure the paper's experiments and ablations, and write a report of them."""
    session = _open(data, out, str(_recipe_of(out)), None, rates, None, accelerator, precision, 2.0, "paper")
    from kneerisk_train.paper.experiments import run_suite
    from kneerisk_train.paper.report import write_report

    with _interruptible(report):
        page = write_report(run_suite(session, report, steps=steps), session, report)
    typer.echo(f"the report is {page}, and {page.with_suffix('.md')}")


def _recipe_of(out: Path) -> Path:
    from kneerisk.errors import UsageError

    if not (out / "recipe.yaml").is_file():
        raise UsageError(f"{out} holds no run: train one there first (kneerisk train all)")
    return out / "recipe.yaml"


def _open(
    data: Path,
    out: Path,
    recipe: str,
    init: str | None,
    rates: Path | None,
    equations: Path | None,
    accelerator: Accelerator,
    precision: Precision,
    checkpoint_minutes: float,
    log_name: str,
) -> Session:
    _need_torch()
    from kneerisk_train.stages.order import open_session

    return open_session(
        data,
        out,
        recipe,
        init=init,
        rates=rates,
        equations=equations,
        accelerator=accelerator.value,
        precision=precision.value,
        checkpoint_seconds=60 * checkpoint_minutes,
        log_name=log_name,
    )


def _need_torch() -> None:
    from importlib.util import find_spec

    from kneerisk.errors import UsageError

    missing = [
        name for name in ("torch", "lightning_fabric", "sklearn", "onnxscript") if find_spec(name) is None
    ]
    if missing:
        raise UsageError(
            f"training needs {', '.join(missing)}: install kneerisk with its extra, "
            "pip install 'kneerisk[train]'"
        )


def _interruptible(out: Path) -> Any:
    from kneerisk.cli import show

    return show.interruptible(
        f"Stopped. The last checkpoint is kept: run the same again to go on with {out}."
    )


def _tell_plan(recipe: str) -> None:
    _need_torch()
    import dataclasses
    import json

    import yaml

    from kneerisk.cli import show
    from kneerisk_train.run.recipe import load_recipe
    from kneerisk_train.stages.dry_run import dry_run

    resolved = load_recipe(recipe)
    values = json.loads(json.dumps(dataclasses.asdict(resolved)))
    typer.echo(yaml.safe_dump(values, sort_keys=False).rstrip())
    side = resolved.crop_size // 8
    typer.echo(
        f"\ncrops {resolved.crop_size} px, latents {resolved.vqvae.encoder.latent_channels} x {side} x {side}"
    )
    show.pairs(
        [
            (
                stage.name,
                f"{stage.parameters / 1e6:.2f} M parameters ({stage.trained / 1e6:.2f} M trained), "
                f"{stage.steps} steps of {stage.batch_size}, about {stage.memory / 2**30:.1f} GiB",
            )
            for stage in dry_run(resolved)
        ]
    )
    typer.echo("memory is estimated: states, and activations in bf16; the crops of the cohort come on top")
