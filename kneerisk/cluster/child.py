"""The process that speaks with the cluster for a run.

It is one of its own because Ray ends a process whose cluster is lost, without an exception, and talks on
standard error; the run and its journal are to outlive that. It ends as well when the run does: nobody
writes to its pipe any more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from kneerisk.cluster.blocks import Failed, Message, Work
from kneerisk.cluster.conduct import Conductor, Event, NoNodeError
from kneerisk.radiograph.apart.wire import receive, send

HEAD_GONE = 70
"""Exit status: the head answers no more."""
_CONNECT = 45.0
"""Seconds that joining the cluster may take."""
_TRIES = 3
_PAUSE = 2.0


def serve() -> None:
    """Join, conduct, leave."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    with suppress(EOFError, BrokenPipeError):
        _serve(receive(questions), questions, answers)


def _serve(work: Work, questions: BinaryIO, answers: BinaryIO) -> None:
    from kneerisk.cluster import ray_grid

    def tell(message: Message) -> None:
        send(answers, message)

    def ask() -> Sequence[Any] | None:
        given: Sequence[Any] | None = receive(questions)
        return given

    class Watched(ray_grid.RayGrid):
        """The run speaks only when it is asked: what can be read at another time is its end."""

        def wait(self, seconds: float) -> list[Event]:
            events = super().wait(seconds)
            if select.select([questions], [], [], 0)[0]:
                raise EOFError
            return events

    joined = threading.Event()
    threading.Thread(target=_give_up, args=(joined, tell, work.address), daemon=True).start()
    try:
        head = ray_grid.connect(work.address)
    except Exception as error:
        tell(Failed(f"{_no_cluster(work.address)} ({_first_line(error)})", usage=True))
        return
    finally:
        joined.set()
    threading.Thread(target=_watch, args=(head,), daemon=True).start()
    grid = Watched(work.opener)
    try:
        Conductor(grid, tell, ask, work.expected, gpus=work.gpus).run()
    except NoNodeError as error:
        tell(Failed(f"no node of the Ray cluster can score: {error}"))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        tell(Failed(f"the Ray cluster failed ({_first_line(error)})"))
    finally:
        grid.shut()


def _give_up(joined: threading.Event, tell: Any, address: str) -> None:
    """Ray tries for minutes to join a cluster that is none."""
    if not joined.wait(_CONNECT):
        with suppress(OSError):
            tell(Failed(f"{_no_cluster(address)} (no answer in {_CONNECT:.0f} s)", usage=True))
        os._exit(1)


def _watch(head: str) -> None:
    """End when the head is gone: Ray's own calls would wait for a minute, and then end this process."""
    host, _, port = head.rpartition(":")
    failures = 0
    while failures < _TRIES:
        time.sleep(_PAUSE)
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            failures = 0
        except OSError:
            failures += 1
    os._exit(HEAD_GONE)


def _no_cluster(address: str) -> str:
    if address == "auto":
        return (
            "--runner ray: this machine belongs to no Ray cluster: start one (ray start --head), or name "
            "one by --ray-address HOST:PORT"
        )
    return f"--ray-address {address}: no Ray cluster can be joined there: see that it runs (ray status)"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
