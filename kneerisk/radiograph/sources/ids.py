"""Where a participant's id comes from when no manifest names it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from kneerisk.errors import UsageError
from kneerisk.radiograph.sources.manifest import parse_side
from kneerisk.records import Side

Identity = tuple[str | None, str | None, Side | Literal["both"] | None]
"""Participant's id, visit and side; ``None`` where the path does not tell."""


def identifier(id_from: str) -> Callable[[str, str], Identity]:
    """Turn ``--id-from`` into a function of (source path, folder's name) → participant's id, visit, side.

    The function raises ValueError, with words for the user, where a pattern finds no id.

    Raises:
        UsageError: the option is none of tag, folder and regex:PATTERN, or the pattern cannot be read.
    """
    if id_from == "tag":
        return lambda source, folder: (None, None, None)
    if id_from == "folder":
        return lambda source, folder: (folder, None, None)
    if not id_from.startswith("regex:"):
        raise UsageError(f"--id-from is {id_from!r}; use tag, folder or regex:PATTERN")
    try:
        pattern = re.compile(id_from.removeprefix("regex:"))
    except re.error as error:
        raise UsageError(f"--id-from: the pattern cannot be read ({error}); mend it") from error

    def identify(source: str, folder: str) -> Identity:
        match = pattern.search(source)
        groups = {} if match is None else match.groupdict()
        if match is None:
            raise ValueError(f"the pattern {pattern.pattern!r} matches nothing in {source!r}")
        plain = match.group(1) if match.re.groups and not groups else match.group(0)
        participant = groups.get("participant_id", groups.get("id", plain))
        if not participant:
            raise ValueError(f"the pattern {pattern.pattern!r} finds an empty id in {source!r}")
        word = groups.get("side")
        named = None if not word else parse_side(word)
        if word and named is None:
            raise ValueError(
                f"the pattern {pattern.pattern!r} finds the side {word!r} in {source!r}, not L, R or both"
            )
        return participant, groups.get("visit") or None, named

    return identify
