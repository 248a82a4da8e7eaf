"""Commands that other packages bring, by entry points of the group ``kneerisk.commands``.

    [project.entry-points."kneerisk.commands"]
    train = "kneerisk_train.commands.train:app"        # a typer.Typer

The list of commands names them without importing one: the first line of a module's docstring is its help.
A command is imported when it is asked for, and one that is broken costs nobody another.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from kneerisk.errors import KneeriskError

GROUP = "kneerisk.commands"


class CommandGroup(TyperGroup):
    """The house's own commands, and then those of other packages; none of theirs takes an own one's name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command's name."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in found() if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, or of another package's its name and help alone."""
        if (own := super().get_command(ctx, cmd_name)) is not None or cmd_name not in found():
            return own
        return TyperCommand(cmd_name, help=_first_line(found()[cmd_name]))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` ask for, imported.

        Raises:
            KneeriskError: another package's cannot be.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and super().get_command(ctx, name) is None and name in found():
            command = loaded(found()[name])
        return name, command, rest


@cache
def found() -> dict[str, EntryPoint]:
    """Other packages' commands by name, in the order of their names."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def loaded(entry: EntryPoint) -> Any:
    """A command, imported.

    Raises:
        KneeriskError: it cannot be; names its package.
    """
    try:
        command = typer.main.get_command(entry.load())
    except Exception as error:
        package = "a package" if entry.dist is None else f"the package {entry.dist.name}"
        raise KneeriskError(
            f"the command {entry.name} comes from {package} ({entry.value}) and cannot be loaded "
            f"({type(error).__name__}: {error}): install that package again, or remove it"
        ) from error
    command.name = entry.name
    return command


def _first_line(entry: EntryPoint) -> str:
    """Of its module's docstring, read and not run; only the packages around the module are imported."""
    try:
        spec = importlib.util.find_spec(entry.module)
        source = Path(str(spec and spec.origin)).read_text("utf-8")
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    except Exception as error:
        return f"cannot be loaded: {error}"
