"""Where a command writes: no output may be an input, another output, or the metadata of somebody's table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from kneerisk.errors import UsageError
from kneerisk.scoring.outputs.table import metadata_beside

Named = tuple[str, Path]
"""What a person calls a place (``--futures``), and the place."""


def places_of(name: str, out: Path) -> list[Named]:
    """A table's file, and of a CSV its metadata's."""
    found = [(name, out)]
    if out.suffix.lower() == ".csv":
        found.append((f"the metadata of {name}", metadata_beside(out)))
    return found


def refuse_clashes(
    outputs: Sequence[Named], inputs: Iterable[Path] = (), workspace: Path | None = None
) -> None:
    """Say before any work what would be written over.

    Args:
        outputs: all that a command writes, files and folders.
        inputs: files that it reads.
        workspace: a folder that it deletes at the end.

    Raises:
        UsageError: two outputs are one place, an output is an input, lies in the workspace, or is where
            another table's metadata lies.
    """
    for index, (name, place) in enumerate(outputs):
        for other, taken in outputs[:index]:
            if is_same(place, taken):
                raise UsageError(
                    f"{name} and {other} are the same file, {place}: give each a name of its own"
                )
        if any(is_same(place, path) for path in inputs):
            raise UsageError(f"{name} {place} is an input, and would be written over: choose another name")
        if workspace is not None and _is_in(place, workspace):
            raise UsageError(
                f"{name} {place} lies in {workspace.name}, which a run deletes: choose another place"
            )
    places = [place for _, place in outputs]
    for name, place in outputs:
        table = _described_by(place)
        if table is not None and not any(is_same(table, place) for place in places):
            raise UsageError(f"{name} {place} is the metadata of the table {table.name}: choose another name")


def is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one place, by links too."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 (as Path.samefile, and for what is not there yet)
    except OSError:
        return False


def _is_in(place: Path, folder: Path) -> bool:
    return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder))


def _described_by(place: Path) -> Path | None:
    """The CSV table whose metadata lies at ``place``, or would."""
    table = place.with_suffix("")
    return table if place.suffix == ".json" and table.suffix.lower() == ".csv" and table.exists() else None
