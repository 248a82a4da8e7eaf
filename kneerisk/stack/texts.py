"""A stack's texts, read as what a stranger may have written: bounded in bytes, in depth and in repetition."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kneerisk.errors import StackError

MOST_BYTES = 4 << 20
"""Of a document beside the weights; the shipped stack's largest has 26 kB."""
MOST_YAML_BYTES = 256 << 10
"""Of a ``stack.yaml``, which a slow reader reads; the shipped one has 6 kB."""
MOST_DEPTH = 20
"""Lists and mappings within each other, in YAML."""
MOST_VALUES = 20_000
"""In YAML, with every reference followed; the shipped stack's has some 400."""
FETCH = "fetch the stack again, or reinstall kneerisk if it is the shipped one"


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """A file's bytes.

    Raises:
        StackError: it cannot be read, or is larger than ``most``; names the file.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise StackError(f"{path} cannot be read ({error.strerror}): {FETCH}") from error
    if len(content) > most:
        raise StackError(f"{path} has more than {most >> 10} kB, and no stack's has: {FETCH}")
    return content


def read_text(path: Path) -> str:
    """A document in UTF-8; StackError where it is none, or cannot be read."""
    return _decoded(read_bytes(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; StackError where the file holds something else, or cannot be read."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise StackError(f"{path} is no JSON that can be read ({shortened(error)}): {FETCH}") from error
    if not isinstance(values, dict):
        raise StackError(f"{path} holds no JSON object but {type(values).__name__}: {FETCH}")
    return values


def parse_yaml(content: bytes, path: Path) -> object:
    """Plain values of a YAML document.

    By a few references, one of which holds the next, a page of text becomes more values than any memory
    holds.  So its depth and its size with every reference followed are looked at before anything is built.

    Raises:
        StackError: it is no YAML, too deep, too large, or refers to itself; names the file ``path``.
    """
    text = _decoded(content, path)
    try:
        _check_events(text, path)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise StackError(f"{path} is no YAML that can be read ({shortened(error)}): {FETCH}") from error


def shortened(error: object, most: int = 300) -> str:
    """An error's words in one line, cut: values from a stranger's file may be of any length."""
    words = " ".join(str(error).split())
    return words if len(words) <= most else words[: most - 1] + "…"


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StackError(f"{path} is no text in UTF-8 ({error.reason}): {FETCH}") from error


def _check_events(text: str, path: Path) -> None:
    """Look at what the document would become before anything is built from it.

    A reference (``*a``) counts as all that it stands for, in size and in depth.
    """
    open_parts = [_Part(None)]
    known: dict[str, _Part] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_parts.append(_Part(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent | yaml.ScalarEvent | yaml.AliasEvent):
            if isinstance(event, yaml.AliasEvent):
                if event.anchor not in known:  # not yet closed, or nowhere
                    raise StackError(f"{path} refers to its own parts (*{str(event.anchor)[:40]}): {FETCH}")
                part = known[event.anchor]
            else:
                part = (
                    _Part(event.anchor, height=0) if isinstance(event, yaml.ScalarEvent) else open_parts.pop()
                )
                if part.anchor is not None:
                    known[part.anchor] = part
            open_parts[-1].add(part)
        if len(open_parts) - 2 + open_parts[-1].height > MOST_DEPTH:
            raise StackError(f"{path} nests more than {MOST_DEPTH} levels: {FETCH}")
        if open_parts[-1].size > MOST_VALUES:
            raise StackError(f"{path} holds more than {MOST_VALUES:,} values, references followed: {FETCH}")


@dataclass(slots=True)
class _Part:
    """A value of a document, by what it costs once every reference in it is followed."""

    anchor: str | None
    size: int = 1
    height: int = 1
    """Collections within each other, its own included."""

    def add(self, part: _Part) -> None:
        """It holds another one."""
        self.size += part.size
        self.height = max(self.height, 1 + part.height)
