"""Readers in processes of their own: a file that crashes, hangs or swells costs its own row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from kneerisk_engines.files import sha256_file

from kneerisk.errors import KneeriskError, Reason
from kneerisk.radiograph.apart.wire import receive, send
from kneerisk.records import Radiograph, RadiographRef, Refusal, too_slow

MEMORY = 1_000_000_000
"""Bytes that one file may take; the largest picture that is decoded, of 2²⁶ pixels, takes 0.9 of them."""

_ATTEMPTS = 2
"""Somebody may have killed the process, or the machine ran out of memory: once is not the file's fault."""
_PIPE_BYTES = 1 << 20
_ENVIRONMENT = {
    # One thread: files are read side by side already, and each thread takes address space.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"),
    "MALLOC_ARENA_MAX": "2",
}
_START = "import sys; sys.path[:] = sys.argv[1:]; from kneerisk.radiograph.apart.child import serve; serve()"


class ReadersError(KneeriskError):
    """No process can be started to read files in: the run must end, or each file would be blamed for it."""


class Readers:
    """A function from references to radiographs, called in processes; itself called in threads.

    A process reads one file after another, and as many start as there are threads that read. One that
    crashes or takes too long is replaced. Linux and macOS only: Windows has neither of the limits.
    """

    def __init__(
        self,
        read: Callable[[RadiographRef], Radiograph | Refusal],
        *,
        timeout: float | None,
        memory: int = MEMORY,
    ) -> None:
        """The first process starts at once, beside whatever the caller does before the first file.

        Args:
            read: can be pickled.
            timeout: seconds that a file may take; ``None``: for ever.
            memory: bytes that a file may take, of address space.
        """
        self._read, self._timeout, self._memory = read, timeout, memory
        self._lock = threading.Lock()
        self._closed = False
        self._all: set[_Child] = set()
        self._idle = [self._start()]

    def __enter__(self) -> Readers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            left = list(self._all)
        for child in left:
            child.kill()  # a thread that waits for its answer sees the end, and closes the pipes
        while self._idle:
            self._end(self._idle.pop())

    def __call__(self, ref: RadiographRef) -> Radiograph | Refusal:
        """Read one file.

        Raises:
            RuntimeError: the function raised, and this is what.
            ReadersError: no process can be started.
        """
        how = ""
        for _ in range(_ATTEMPTS):
            child = self._take()
            try:
                outcome, found, spent = child.ask(ref)
            except (EOFError, OSError):
                status = self._end(child)
                if status == -signal.SIGALRM:
                    return too_slow(ref, self._timeout)
                how = _in_words(status)
                continue
            if spent:
                self._end(child)
            else:
                self._idle.append(child)
            if outcome == "raised":
                raise RuntimeError(found)
            if outcome == "read":
                answer: Radiograph | Refusal = found
                return answer
            how = outcome
        return self._refusal(ref, how)

    def _take(self) -> _Child:
        status = 0
        for _ in range(_ATTEMPTS):
            try:
                child = self._idle.pop()
            except IndexError:
                child = self._start()
            if child.is_ready():
                return child
            status = self._end(child)
        raise ReadersError(
            f"the process that reads files cannot start ({_in_words(status)}): see that kneerisk is "
            "installed whole (kneerisk doctor), and that memory is left"
        )

    def _start(self) -> _Child:
        with self._lock:  # or a process could start when all others were ended
            if self._closed:
                raise RuntimeError("the readers are closed")
            child = _Child((self._read, self._timeout, self._memory))
            self._all.add(child)
            return child

    def _end(self, child: _Child) -> int:
        self._all.discard(child)
        return child.close()

    def _refusal(self, ref: RadiographRef, how: str) -> Refusal:
        digest = None
        with suppress(OSError):
            digest = sha256_file(Path(ref.path))
        if how == "out of memory":
            message = (
                f"reading the file takes more than {self._memory / 1e9:.3g} GB of memory, "
                "the most that one file may have; export it again, or leave it out"
            )
            return Refusal(ref, Reason.OUT_OF_MEMORY, message, input_sha256=digest)
        message = (
            f"the file ended the process that read it ({how}), twice; the other rows are sound; "
            "export it again or leave it out, and please report it"
        )
        return Refusal(ref, Reason.READER_CRASHED, message, input_sha256=digest)


class _Child:
    """One process, and the two pipes to it."""

    def __init__(self, setup: object) -> None:
        # The same import path as ours: Python would put the current folder first, which may be a stranger's.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # Ctrl-C is for the run, which ends its readers when it is ready to
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._from: BinaryIO = self._process.stdout  # type: ignore[assignment]
        self._ready = False
        _widen(self._from)
        with suppress(OSError):  # it is gone already: is_ready tells
            send(self._to, setup)

    def is_ready(self) -> bool:
        """Wait until it has started; whether it has."""
        if not self._ready:
            with suppress(EOFError, OSError):
                self._ready = receive(self._from) == "ready"
        return self._ready

    def ask(self, ref: RadiographRef) -> Any:
        send(self._to, ref)
        return receive(self._from)

    def kill(self) -> int:
        """End it, and what it started; its exit status, or minus the signal that had ended it before."""
        if self._process.returncode is None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def close(self) -> int:
        """As ``kill``, and let the pipes go; in the thread that used them last."""
        self._to.close()
        self._from.close()
        return self.kill()


def _widen(pipe: BinaryIO) -> None:
    """Let a megabyte wait in a pipe, where the system can: fewer turns from process to process."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _in_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
