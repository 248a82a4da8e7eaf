"""Who serves which block: nodes that come and go, processes that end, blocks that end them.

Every node has its servers: one for each GPU where the cluster has GPUs and they are wanted, else one that
takes the node's CPUs. Each has two blocks at most, so that its next is there when one is done, and nothing
piles up. A server that ends is replaced, and its blocks go to whoever is free, who has no other beside them.
A block that is lost twice is cut into its items; an item that twice ended a server of a node that else serves
well is given up.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kneerisk.cluster.blocks import Block, Done, Finished, GivenUp, Message, Note, Ready, Want

DEPTH = 2
"""Blocks that a server has at a time."""
_LOSSES = 2
_STRIKES = 5
"""Servers that a node may lose, with nothing served in between, before it is left out."""
_LOOK = 2.0
"""Seconds between two looks at the nodes."""
_PATIENCE = 30.0
"""Seconds without any server before the user hears of it."""


class NoNodeError(Exception):
    """No node can serve; says why of each."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster that is alive."""

    id: str
    name: str
    cpus: float
    gpus: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A server's place: its node, and what it takes of it."""

    node: Node
    number: int
    cpus: float
    gpus: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A server is ready, and says what it is."""

    seat: Seat
    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A block's result."""

    seat: Seat
    block: Block
    result: Any


@dataclass(frozen=True, slots=True)
class Lost:
    """A server is gone, with what it was serving."""

    seat: Seat
    words: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A node cannot open a server."""

    seat: Seat
    words: str


Event = Opened | Served | Lost | Unfit


class Grid(Protocol):
    """A cluster, as far as it is needed here."""

    def nodes(self) -> list[Node]:
        """Those alive."""

    def open(self, seat: Seat) -> None:
        """Begin to open a server; an event tells how it ended."""

    def give(self, seat: Seat, block: Block) -> None:
        """Have an open server serve a block; an event tells how it ended."""

    def close(self, seat: Seat) -> None:
        """End a server, with no further event of it."""

    def wait(self, seconds: float) -> list[Event]:
        """What happened, waiting for at most so long where nothing has."""


def seats_of(nodes: Sequence[Node], *, gpus: bool) -> list[Seat]:
    """Where servers belong. Where GPUs are wanted and there are some, nodes without stay out.

    Their CPUs would round otherwise than the GPUs, and a row must not depend on the node that made it.
    """
    if gpus and any(node.gpus for node in nodes):
        return [Seat(node, number, node.cpus / node.gpus, 1) for node in nodes for number in range(node.gpus)]
    return [Seat(node, 0, node.cpus, 0) for node in nodes if node.cpus > 0]


class Conductor:
    """Serves blocks until there are no more.

    Args:
        grid: the cluster.
        tell: takes messages for the run.
        ask: one more block's items, after a :class:`Want` was told; ``None``: there are no more.
        expected: what every server must say of itself.
        gpus: whether GPUs are wanted.
        clock: seconds.
    """

    def __init__(
        self,
        grid: Grid,
        tell: Callable[[Message], None],
        ask: Callable[[], Sequence[Any] | None],
        expected: Mapping[str, Any],
        *,
        gpus: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grid, self._tell, self._ask = grid, tell, ask
        self._expected, self._gpus, self._clock = expected, gpus, clock
        self._identity: Mapping[str, Any] | None = None
        self._running: dict[Seat, list[Block]] = {}
        """Open servers, and what each serves."""
        self._opening: set[Seat] = set()
        self._again: deque[Block] = deque()
        self._more = True
        self._unfit: dict[str, str] = {}
        """Node that is left out → its name and why."""
        self._strikes: Counter[str] = Counter()
        self._used: dict[str, str] = {}
        """Node that had a server, and has not left → its name."""
        self._proven: set[str] = set()
        """Nodes that have served a block."""
        self._next_look = self._idle_since = clock()
        self._said_idle = False

    def run(self) -> None:
        """Serve every block.

        Raises:
            NoNodeError: no node can serve.
        """
        while self._more or self._again or any(self._running.values()):
            if self._clock() >= self._next_look:
                self._look()
            if self._identity is not None:
                self._give()
            for event in self._grid.wait(1.0):
                self._on(event)
        self._tell(Finished())

    def _look(self) -> None:
        """Let every node have its servers."""
        self._next_look = self._clock() + _LOOK
        nodes = self._grid.nodes()
        alive = {node.id for node in nodes}
        for gone in [id for id in self._used if id not in alive]:
            self._tell(Note(f"node {self._used.pop(gone)} has left the Ray cluster"))
        seats = seats_of(nodes, gpus=self._gpus)
        for seat in seats:
            if seat.node.id not in self._unfit and seat not in self._running and seat not in self._opening:
                self._opening.add(seat)
                self._grid.open(seat)
        if self._running:
            self._idle_since = self._clock()
            return
        if seats and not self._opening:  # every node is left out
            raise NoNodeError("; ".join(self._unfit.values()))
        if not self._said_idle and self._clock() - self._idle_since > _PATIENCE:
            self._said_idle = True
            self._tell(
                Note(
                    "no node of the Ray cluster scores yet, kneerisk waits: other work has a node's CPUs or "
                    "GPUs, which it takes whole (ray status shows who has them), or networks are being opened"
                )
            )

    def _give(self) -> None:
        """Each server its first block before any has its second; what was lost before is served alone.

        A server that ends takes along all that it was given, and only of one block can it be said which.
        """
        for depth in range(1, DEPTH + 1):
            for seat, blocks in self._running.items():
                if depth > 1 and (self._again or any(block.lost for block in blocks)):
                    continue
                if len(blocks) < depth:
                    block = self._next_block()
                    if block is None:
                        return
                    blocks.append(block)
                    self._grid.give(seat, block)

    def _next_block(self) -> Block | None:
        if self._again:
            return self._again.popleft()
        if not self._more:
            return None
        self._tell(Want())
        items = self._ask()
        self._more = items is not None
        return None if items is None else Block(items)

    def _on(self, event: Event) -> None:
        seat = event.seat
        if isinstance(event, Opened):
            self._opening.discard(seat)
            wrong = self._difference(event.identity)
            if wrong is not None:
                self._grid.close(seat)
                self._leave_out(seat.node, wrong)
                return
            self._running[seat] = []
            self._used[seat.node.id] = seat.node.name
            if self._identity is None:
                self._identity = event.identity
                self._tell(Ready(event.identity))
        elif isinstance(event, Served):
            self._running[seat].remove(event.block)
            self._proven.add(seat.node.id)
            self._strikes[seat.node.id] = 0
            self._tell(Done(event.result, seat.node.name))
        elif isinstance(event, Unfit):
            self._opening.discard(seat)
            self._leave_out(seat.node, event.words)
        else:
            self._lose(seat, event.words)

    def _difference(self, identity: Mapping[str, Any]) -> str | None:
        """What a node would make otherwise than the run or the others: rows must not depend on it."""
        for known in (self._expected, self._identity or {}):
            for name, value in known.items():
                if identity.get(name) != value:
                    return f"{name} is {identity.get(name)} there and {value} elsewhere"
        return None

    def _leave_out(self, node: Node, why: str) -> None:
        if node.id not in self._unfit:
            self._unfit[node.id] = f"node {node.name}: {why}"
            self._tell(Note(f"node {node.name} of the Ray cluster is left out: {why}"))

    def _lose(self, seat: Seat, words: str) -> None:
        node = seat.node
        opening = seat in self._opening
        self._opening.discard(seat)
        blocks = self._running.pop(seat, [])
        self._strikes[node.id] += 1
        self._next_look = self._clock()
        if not opening:
            again = "; what it had is scored again" if blocks else ""
            self._tell(Note(f"node {node.name} of the Ray cluster: {words}{again}"))
        for block in blocks:
            self._retry(block, node, words)
        if self._strikes[node.id] >= _STRIKES:
            self._leave_out(node, f"{words}, {_STRIKES} times in a row")

    def _retry(self, block: Block, node: Node, words: str) -> None:
        # A node that never served anything says nothing of its items: others go first, which may prove it.
        proven = node.id in self._proven
        block.losses += 1 if proven or len(block.items) > 1 else 0
        block.lost = True
        if block.losses < _LOSSES:
            (self._again.appendleft if proven else self._again.append)(block)
        elif len(block.items) > 1:
            self._again.extend(Block([item], lost=True) for item in block.items)
        else:
            self._strikes[node.id] = 0  # the item's fault
            self._tell(GivenUp(block.items[0], words))
