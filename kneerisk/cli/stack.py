"""``kneerisk stack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kneerisk.cli import options as o
from kneerisk.cli.show import echo

if TYPE_CHECKING:
    from kneerisk.stack.description import StackDescription

app = typer.Typer(help="The stacks of networks that are here.", no_args_is_help=True)


@app.command("list")
def list_stacks(json: o.Json = False) -> None:
    """Every stack that can be named with --stack."""
    from kneerisk.cli import show
    from kneerisk.errors import StackError
    from kneerisk.stack.find import available_stacks
    from kneerisk.stack.stack import Stack

    entries: list[dict[str, str | None]] = []
    for name, folder in available_stacks().items():
        try:
            stack = Stack.load(folder)
            entries.append(
                {
                    "name": name,
                    "stack": stack.name,
                    "sha256": stack.sha256,
                    "summary": stack.description.summary,
                }
            )
        except StackError as error:
            entries.append({"name": name, "stack": None, "sha256": None, "summary": f"damaged: {error}"})
    if json:
        show.print_json(entries)
    else:
        show.pairs(
            [(str(entry["name"]), str(entry["summary"])) for entry in entries]
            or [("none", "no stack is here")]
        )


@app.command("info")
def info(
    name: Annotated[str, typer.Argument(help="Name or folder of a stack.")] = "compact",
    json: o.Json = False,
) -> None:
    """What a stack is: components and their terms, defaults, calibration population, model card."""
    from kneerisk.cli import show
    from kneerisk.stack.stack import Stack

    stack = Stack.load(name)
    description = stack.description
    population = stack.calibration().get("population")
    if json:
        show.print_json(
            {
                "stack": stack.name,
                "sha256": stack.sha256,
                **description.to_plain(),
                "calibration": stack.calibration(),
                "model_card": stack.model_card(),
            }
        )
        return
    show.pairs(
        [
            ("stack", f"{stack.name}: {description.summary}"),
            ("sha256", stack.sha256),
            ("crop", f"{description.crop_size} px, {description.field_of_view_mm:g} mm"),
            ("defaults", _defaults(description)),
            ("calibrated to", str(population)),
            *((name, entry.terms) for name, entry in description.components.items()),
        ]
    )
    echo("\n" + stack.model_card())


def _defaults(description: StackDescription) -> str:
    return f"{description.steps} steps, {description.samples} sampled futures"


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A stack's folder.", show_default=False)],
    name: Annotated[
        str | None, typer.Option(help="What to call it here; default: its own name.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace one of that name.")] = False,
) -> None:
    """Verify a stack and copy it among your own, so that --stack NAME finds it."""
    from kneerisk.stack.find import own_root
    from kneerisk.stack.write import import_stack

    place = import_stack(folder, own_root(), name=name, overwrite=overwrite)
    echo(f"score with it: kneerisk score ./cohort --stack {place.name} --out risks.parquet")


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of your own stacks.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete one of your own stacks; tables that it scored stay, and can no longer be repeated."""
    import sys

    from kneerisk.errors import UsageError
    from kneerisk.stack.find import available_stacks
    from kneerisk.stack.write import removable, remove_stack

    folder = removable(name)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is here to be asked: add --yes to delete {folder}")
        typer.confirm(f"Delete {folder}, for good?", abort=True)
    remove_stack(name)
    echo(f"removed {folder}")
    if (other := available_stacks().get(name)) is not None:
        echo(f"--stack {name} now means {other}")
