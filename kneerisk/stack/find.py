"""Where stacks lie, and which one a name means."""

from __future__ import annotations

import os
from pathlib import Path

from kneerisk.errors import StackError

STACK_FILE = "stack.yaml"
"""In every stack's folder: what it is."""
STACKS_VARIABLE = "KNEERISK_STACKS"


def stack_roots() -> list[Path]:
    """List the folders of stacks, first come first: $KNEERISK_STACKS, the user's data, the package."""
    import platformdirs

    user = Path(platformdirs.user_data_dir("kneerisk", appauthor=False)) / "stacks"
    return [*_listed_roots(), user, _installed_root()]


def _installed_root() -> Path:
    return Path(__file__).absolute().parents[1] / "stacks"


def came_along(folder: Path) -> bool:
    """Whether a stack's folder is of those that were installed with kneerisk."""
    return folder.absolute().parent == _installed_root()


def own_root() -> Path:
    """Folder that imported stacks go into: the first of $KNEERISK_STACKS, else the user's data."""
    return stack_roots()[0]


def _listed_roots() -> list[Path]:
    return [Path(root) for root in os.environ.get(STACKS_VARIABLE, "").split(os.pathsep) if root]


def available_stacks() -> dict[str, Path]:
    """Name → folder of every stack that can be loaded by name; the first root that has a name wins."""
    found: dict[str, Path] = {}
    for root in stack_roots():
        if root.is_dir():
            for recipe in sorted(root.glob(f"*/{STACK_FILE}")):
                found.setdefault(recipe.parent.name, recipe.parent)
    return found


def find_stack(name_or_path: str | Path) -> Path:
    """Find the folder of a stack: a known name first, else a path; StackError says what there is instead."""
    known = available_stacks()
    if isinstance(name_or_path, str) and name_or_path in known:
        return known[name_or_path]
    folder = Path(name_or_path)
    if (folder / STACK_FILE).is_file():
        return folder
    if folder.is_dir():
        raise StackError(f"{folder} is no stack: it has no {STACK_FILE}")
    names = ", ".join(known) or "none"
    raise StackError(
        f"no stack {str(name_or_path)!r}: the stacks here are {names}; give one of these names, the path of "
        f"a stack's folder, or set ${STACKS_VARIABLE} to a folder that holds stacks"
    )
