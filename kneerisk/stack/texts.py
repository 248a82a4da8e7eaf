"""A stack's texts, read as what a stranger may have written: bounded in bytes, in depth and in repetition."""

from __future__ import annotations

import json
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

    References are refused: by a few of them, one of which holds the next, a page of text becomes more values
    than any memory holds.  The depth is looked at first, before anything is built from it.

    Raises:
        StackError: it is no YAML, too deep, or has references; names the file ``path``.
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
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise StackError(f"{path} refers to its own parts (*{str(event.anchor)[:40]}): {FETCH}")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise StackError(f"{path} nests more than {MOST_DEPTH} levels: {FETCH}")
