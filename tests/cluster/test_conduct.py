"""Who serves which block, tried without Ray: a cluster of words, whose servers end when they are told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest

from kneerisk.cluster.blocks import Block, Done, Finished, GivenUp, Message, Note, Ready, Want
from kneerisk.cluster.conduct import (
    DEPTH,
    Conductor,
    Event,
    Lost,
    Node,
    NoNodeError,
    Opened,
    Seat,
    Served,
    Unfit,
    seats_of,
)

SAME = {"precision": "fp32", "kneerisk_version": "1"}


class Words:
    """Nodes by name; a server serves its oldest block at each look, unless an item in it ends it."""

    def __init__(self, *names: str, deadly: str = "", identities: Mapping[str, Any] | None = None) -> None:
        self.alive = [Node(name, name, 4.0, 0) for name in names]
        self.deadly = deadly
        self.identities = identities or {}
        self.events: deque[Event] = deque()
        self.servers: dict[Seat, list[Block]] = {}
        self.opened: list[str] = []
        self.deepest = 0
        self.now = 0.0
        self.at_wait: list[Any] = []
        """What happens at each wait, in turn."""

    def nodes(self) -> list[Node]:
        return list(self.alive)

    def open(self, seat: Seat) -> None:
        self.opened.append(seat.node.name)
        identity = self.identities.get(seat.node.name, SAME)
        if isinstance(identity, str):
            self.events.append(Unfit(seat, identity))
            return
        self.servers[seat] = []
        self.events.append(Opened(seat, identity))

    def give(self, seat: Seat, block: Block) -> None:
        self.servers[seat].append(block)
        self.deepest = max(self.deepest, len(self.servers[seat]))

    def close(self, seat: Seat) -> None:
        del self.servers[seat]

    def end(self, name: str, *, node: bool = False) -> None:
        """Kill a node's servers, and the node."""
        for seat in [seat for seat in self.servers if seat.node.name == name]:
            del self.servers[seat]
            self.events.append(Lost(seat, "killed"))
        if node:
            self.alive = [other for other in self.alive if other.name != name]

    def wait(self, seconds: float) -> list[Event]:
        self.now += 0.5
        if self.at_wait and (happens := self.at_wait.pop(0)) is not None:
            happens()
        for seat, blocks in list(self.servers.items()):
            if not blocks:
                continue
            if any(item in self.deadly for block in blocks for item in block.items):
                self.end(seat.node.name)
            else:
                block = blocks.pop(0)
                self.events.append(Served(seat, block, "".join(block.items).upper()))
        found = list(self.events)
        self.events.clear()
        return found


def conduct(grid: Words, blocks: list[str], *, expected: Mapping[str, Any] | None = None) -> list[Message]:
    told: list[Message] = []
    left = deque(blocks)

    def ask() -> list[str] | None:
        assert isinstance(told[-1], Want)
        return list(left.popleft()) if left else None

    Conductor(grid, told.append, ask, expected or {}, gpus=False, clock=lambda: grid.now).run()
    return told


def results(told: list[Message]) -> str:
    return "".join(sorted("".join(message.result for message in told if isinstance(message, Done))))


def notes(told: list[Message]) -> list[str]:
    return [message.words for message in told if isinstance(message, Note)]


def test_every_block_is_served_once_and_no_more_than_two_wait_at_a_server() -> None:
    grid = Words("a", "b")
    told = conduct(grid, ["pq", "rs", "tu", "v", "w", "xy", "z"])
    assert results(told) == "PQRSTUVWXYZ"
    assert told[-1] == Finished() and notes(told) == []
    assert [message for message in told if isinstance(message, Ready)] == [Ready(SAME)]
    assert grid.deepest == DEPTH == 2


def test_blocks_of_a_node_that_dies_go_to_the_others_and_are_there_once() -> None:
    grid = Words("a", "b")
    grid.at_wait = [None, lambda: grid.end("b", node=True)]
    told = conduct(grid, ["pq", "rs", "tu", "vw", "xy"])
    assert results(told) == "PQRSTUVWXY"
    assert notes(told) == [
        "node b of the Ray cluster: killed; what it had is scored again",
        "node b has left the Ray cluster",
    ]
    assert grid.opened == ["a", "b"]


def test_a_node_that_has_left_is_told_once_however_often_nodes_are_looked_for() -> None:
    grid = Words("a", "b")
    grid.at_wait = [None, lambda: grid.end("b", node=True)]
    told = conduct(grid, ["pq"] * 60)
    assert grid.now > 20, "several looks"
    assert notes(told)[1:] == ["node b has left the Ray cluster"]


def test_a_server_that_ended_is_replaced_and_a_node_that_comes_serves_too() -> None:
    grid = Words("a")
    grid.at_wait = [None, lambda: grid.end("a"), lambda: grid.alive.append(Node("b", "b", 2.0, 0))]
    told = conduct(grid, [*"pqrstuvwxyz"] * 3)
    assert results(told) == "".join(sorted("PQRSTUVWXYZ" * 3))
    assert grid.opened == ["a", "a", "b"]


def test_an_item_that_ends_its_servers_is_given_up_alone() -> None:
    grid = Words("a", "b", deadly="!")
    told = conduct(grid, ["pq", "r!s", "tu", "vw"])
    assert results(told) == "PQRSTUVW"
    assert [message for message in told if isinstance(message, GivenUp)] == [GivenUp("!", "killed")]


def test_many_deadly_items_leave_no_good_node_out() -> None:
    grid = Words("a", deadly="!?%&$")
    told = conduct(grid, ["pq", "!?%&$", "rs"])
    assert results(told) == "PQRS"
    assert sorted(m.item for m in told if isinstance(m, GivenUp)) == sorted("!?%&$")


def test_a_node_whose_servers_only_end_is_left_out_and_costs_no_item() -> None:
    grid = Words("a", "b")
    grid.at_wait = [None, *[lambda: grid.end("b")] * 40]
    told = conduct(grid, [*"pqrstuvwxyz"] * 3)
    assert results(told) == "".join(sorted("PQRSTUVWXYZ" * 3))
    assert not [message for message in told if isinstance(message, GivenUp)]
    assert notes(told)[-1] == "node b of the Ray cluster is left out: killed, 5 times in a row"


def test_where_every_server_ends_the_run_ends_with_the_reason() -> None:
    grid = Words("a", deadly="!")
    with pytest.raises(NoNodeError, match="node a: killed, 5 times in a row"):
        conduct(grid, ["!", "!"])


def test_a_node_that_would_make_other_rows_is_left_out() -> None:
    grid = Words("a", "b", identities={"b": SAME | {"precision": "bf16"}})
    told = conduct(grid, [*"pqr"])
    assert results(told) == "PQR"
    assert notes(told) == [
        "node b of the Ray cluster is left out: precision is bf16 there and fp32 elsewhere"
    ]
    assert grid.opened == ["a", "b"]


def test_nodes_that_are_not_what_the_run_expects_or_cannot_open_end_it() -> None:
    grid = Words("a", "b", identities={"b": "no stack there"})
    with pytest.raises(NoNodeError, match=r"^node a: kneerisk_version is 1 there and 2.*; node b: no stack"):
        conduct(grid, ["p"], expected={"kneerisk_version": "2"})


def test_a_run_waits_for_nodes_and_says_so_once() -> None:
    grid = Words()
    grid.at_wait = [None] * 150 + [lambda: grid.alive.append(Node("a", "a", 1.0, 0))]
    told = conduct(grid, ["p"])
    assert results(told) == "P"
    assert [words[:38] for words in notes(told)] == ["no node of the Ray cluster scores yet,"]


def test_a_server_for_each_gpu_or_for_each_nodes_cpus() -> None:
    plain, none, two = Node("p", "p", 8.0, 0), Node("n", "n", 0.0, 0), Node("g", "g", 8.0, 2)
    assert seats_of([plain, none, two], gpus=False) == [Seat(plain, 0, 8.0, 0), Seat(two, 0, 8.0, 0)]
    assert seats_of([plain, none], gpus=True) == [Seat(plain, 0, 8.0, 0)]
    assert seats_of([plain, two], gpus=True) == [Seat(two, 0, 4.0, 1), Seat(two, 1, 4.0, 1)]
