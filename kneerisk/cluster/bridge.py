"""The run's side: a Ray cluster behind a process of its own, asked for results, fed with blocks."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, BinaryIO

from kneerisk.cluster.blocks import Done, Failed, Finished, GivenUp, Message, Note, Opener, Ready, Want, Work
from kneerisk.cluster.child import HEAD_GONE
from kneerisk.errors import KneeriskError, UsageError
from kneerisk.radiograph.apart.wire import receive, send

_START = "import sys; sys.path[:] = sys.argv[1:]; from kneerisk.cluster.child import serve; serve()"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Under uv, Ray would send the working folder to every node.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
_LEAVE = 15.0
"""Seconds in which the process is to end its servers, before it is ended itself; Ray then ends them."""
_CLIENT = "ray://"
_PLAIN = re.compile(r"([^/:\s]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")


class ClusterError(KneeriskError):
    """The cluster, or the way to it, failed; what it has answered stands."""


def address_of(given: str | None) -> str:
    """``--ray-address``, or else ``RAY_ADDRESS``, or else the cluster of this machine: checked.

    Raises:
        UsageError: it is no address, or nothing listens there.
    """
    address = given or os.environ.get("RAY_ADDRESS") or "auto"
    if address == "auto":
        return address
    if address.startswith(_CLIENT):
        raise UsageError(
            f"--ray-address {address}: Ray's client is not supported: run kneerisk on a machine that belongs "
            "to the cluster, and give the head's own address, HOST:PORT without ray:// (its port is 6379, "
            "unless ray start --head was told another)"
        )
    parts = _PLAIN.fullmatch(address)
    if parts is None:
        raise UsageError(f"--ray-address is HOST:PORT or auto; got {address!r}")
    try:
        socket.create_connection((parts[1].strip("[]"), int(parts[2])), timeout=10).close()
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"--ray-address {address}: nothing answers there ({why}): see that the cluster runs (ray status "
            "on its head) and that its port is open; ray start --head says the address"
        ) from error
    return address


class Cluster:
    """A cluster that serves. Use :func:`open_cluster`."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process, self._said = process, said
        assert process.stdin is not None and process.stdout is not None
        self._to: BinaryIO = process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = process.stdout  # type: ignore[assignment]
        self.identity: Mapping[str, Any] = {}
        """What the nodes say of themselves."""

    def begin(self, work: Work, note: Callable[[str], None]) -> None:
        """Wait for the first node to serve.

        Raises:
            UsageError, ClusterError: no cluster, or no node that can.
        """
        with suppress(OSError):  # it is gone already: the next line says why
            send(self._to, work)
        while not isinstance(message := self._next(), Ready):
            if isinstance(message, Note):
                note(message.words)
        self.identity = message.identity

    def serve(self, ask: Callable[[], Sequence[Any] | None]) -> Iterator[Done | GivenUp | Note]:
        """Results as they come, in any order, each block's once.

        Args:
            ask: one more block's items, called when a server is free; ``None``: there are no more.

        Raises:
            ClusterError: the cluster is gone.
        """
        while not isinstance(message := self._next(), Finished):
            if isinstance(message, Want):
                with suppress(OSError):
                    send(self._to, ask())
            elif isinstance(message, Done | GivenUp | Note):
                yield message

    def _next(self) -> Message:
        try:
            message: Message = receive(self._from)
        except (EOFError, OSError):
            raise ClusterError(self._why()) from None
        if isinstance(message, Failed):
            raise UsageError(message.words) if message.usage else ClusterError(message.words)
        return message

    def _why(self) -> str:
        status = self._process.wait()
        lost = "the Ray cluster is gone: its head has stopped, or was started again"
        if status == HEAD_GONE:
            return lost
        self._said.seek(0)
        lines = self._said.read()[-4000:].decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {status}")
        return f"{lost} ({last[:300]})"

    def close(self) -> None:
        """Let the cluster go: its servers end, and so does the process."""
        self._to.close()
        try:
            self._process.wait(_LEAVE)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._from.close()


@contextmanager
def open_cluster(
    given: str | None, opener: Opener, expected: Mapping[str, Any], note: Callable[[str], None], *, gpus: bool
) -> Iterator[Cluster]:
    """Join a cluster and have its nodes open what they need.

    Args:
        given: ``--ray-address``.
        opener: opened on every node; can be pickled.
        expected: see :class:`.blocks.Work`.
        note: takes a sentence for the user, as long as no node serves.
        gpus: whether GPUs are wanted.

    Raises:
        UsageError: Ray is not installed, or there is no such cluster.
        ClusterError: no node can serve.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--runner ray needs Ray: pip install 'kneerisk[cluster]'")
    work = Work(address_of(given), pickle.dumps(opener), expected, gpus)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            bufsize=0,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # Ctrl-C is for the run, which lets the cluster go when it is ready to
        )
        cluster = Cluster(process, said)
        try:
            cluster.begin(work, note)
            yield cluster
        finally:
            cluster.close()
