"""A Ray cluster as a grid: the one file that speaks Ray."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kneerisk.cluster.blocks import Block, Trouble
from kneerisk.cluster.conduct import DEPTH, Event, Lost, Node, Opened, Seat, Served, Unfit
from kneerisk.cluster.server import Server
from kneerisk.version import __version__

_CREATION_MARKS = ("failed to import", "ModuleNotFoundError", "No module named")
_LOW_MEMORY = "low on memory"


def connect(address: str) -> str:
    """Join the cluster; the address of its head's service, which a plain connection can watch.

    Raises:
        ConnectionError, RuntimeError: there is none, or it has another version.
    """
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    found: str = ray.get_runtime_context().gcs_address
    return found


class RayGrid:
    """Servers are actors, each bound to its node; Ray itself restarts and retries nothing."""

    def __init__(self, opener: bytes) -> None:
        self._opener = opener
        self._actor: Any = ray.remote(Server)
        self._actors: dict[Seat, Any] = {}
        self._waiting: dict[Any, tuple[Seat, Block | None]] = {}
        """Reference of an answer → whose, and to which block; ``None``: to being opened."""

    def nodes(self) -> list[Node]:
        """Those alive."""
        return [
            Node(
                found["NodeID"],
                f"{found['NodeManagerAddress']} ({found['NodeID'][:6]})",
                found["Resources"].get("CPU", 0.0),
                int(found["Resources"].get("GPU", 0)),
            )
            for found in ray.nodes()  # type: ignore[no-untyped-call]
            if found["Alive"]
        ]

    def open(self, seat: Seat) -> None:
        """Start an actor on its node; Ray waits until the node has what it takes."""
        actor = self._actor.options(
            num_cpus=seat.cpus,
            num_gpus=seat.gpus,
            max_concurrency=DEPTH,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node.id, soft=False),
        ).remote()
        self._actors[seat] = actor
        self._waiting[actor.open.remote(self._opener)] = (seat, None)

    def give(self, seat: Seat, block: Block) -> None:
        """Send a block."""
        self._waiting[self._actors[seat].serve.remote(block.items)] = (seat, block)

    def close(self, seat: Seat) -> None:
        """End an actor; the readers that it started end with it."""
        actor = self._actors.pop(seat)
        self._waiting = {ref: whose for ref, whose in self._waiting.items() if whose[0] != seat}
        with suppress(RayError, ConnectionError):
            ray.kill(actor)

    def wait(self, seconds: float) -> list[Event]:
        """Answers that are here. Results are fetched one by one: until then they lie on the nodes."""
        if not self._waiting:
            time.sleep(min(seconds, 0.2))  # nothing to wait for but nodes
            return []
        refs = list(self._waiting)
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds, fetch_local=False)
        if not ready:
            return []
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        events: list[Event] = []
        for ref in ready:
            if ref not in self._waiting:  # its actor was closed for what another answer said
                continue
            seat, block = self._waiting.pop(ref)
            events.append(self._event(ref, seat, block))
        return events

    def _event(self, ref: Any, seat: Seat, block: Block | None) -> Event:
        try:
            answer = ray.get(ref)
        except RayError as error:
            words = _words(error)
            self.close(seat)
            if any(mark in str(error) for mark in _CREATION_MARKS):
                return Unfit(seat, f"kneerisk is not installed there: pip install 'kneerisk=={__version__}'")
            return Lost(seat, words)
        if isinstance(answer, Trouble):
            self.close(seat)
            return Unfit(seat, answer.words) if block is None else Lost(seat, answer.words)
        return Opened(seat, answer) if block is None else Served(seat, block, answer)

    def shut(self) -> None:
        """End every actor and leave the cluster."""
        for seat in list(self._actors):
            self.close(seat)
        ray.shutdown()


def _words(error: RayError) -> str:
    """Why a server is lost. Whether its node is, too, shows later: the error does not always tell."""
    said = str(error)
    if isinstance(error, OutOfMemoryError) or _LOW_MEMORY in said:
        return "Ray ended the process that scores there, for want of memory"
    if isinstance(error, ActorUnavailableError):
        return "the process that scores there cannot be reached"
    return "the process that scores there ended (killed, out of memory, or its machine with it?)"
