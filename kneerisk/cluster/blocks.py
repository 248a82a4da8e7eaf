"""What travels between a run, the process that speaks with the cluster, and the nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

Serve = Callable[[Sequence[Any]], Any]
"""A block's items → their result; called in threads, two at once."""
Opener = Callable[[], AbstractContextManager[tuple[Mapping[str, Any], Serve]]]
"""Opens on a node what is needed there (networks, readers): what it is, and what serves blocks. Pickled."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a cluster is to do."""

    address: str
    """``HOST:PORT`` or ``auto``."""
    opener: bytes
    """A pickled :data:`Opener`."""
    expected: Mapping[str, Any]
    """What every node's opener must say of itself, as far as the run knows it beforehand."""
    gpus: bool
    """Whether GPUs are to be used where the cluster has any."""


@dataclass(slots=True, eq=False)
class Block:
    """Some items, and how often a process ended that served them."""

    items: Sequence[Any]
    losses: int = 0
    lost: bool = False
    """Whether it, or one that it was a part of, was being served when a process ended."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Instead of a result: why a node cannot open or serve, in words."""

    words: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The first node serves: what it is."""

    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Want:
    """A process is free for one more block."""


@dataclass(frozen=True, slots=True)
class Done:
    """A block's result."""

    result: Any
    node: str


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An item that ended the process serving it, again and again."""

    item: Any
    words: str


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user."""

    words: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Every block is served."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The cluster cannot go on, and why; ``usage``: the user asked for what cannot be."""

    words: str
    usage: bool = field(default=False, kw_only=True)


Message = Ready | Want | Done | GivenUp | Note | Finished | Failed
