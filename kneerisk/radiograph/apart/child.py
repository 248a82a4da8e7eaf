"""The reading process: one reference after another comes in, one radiograph or refusal goes out.

Nothing that a decoder does here reaches the run: what it takes in memory is bounded, a clock that the kernel
keeps ends it where it takes too long (though it may hold the interpreter's lock), and what it prints, on
standard output or error, goes nowhere. It ends as well when the run does: nobody writes to its pipe any more.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

from kneerisk.radiograph.apart.wire import receive, send

_CODE = 400 << 20
"""Bytes of address space for the interpreter and its libraries, mapped before and as they are used."""

Outcome = Literal["read", "raised", "out of memory"]


def serve() -> None:
    """Read what is asked for until nobody asks any more."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # a library that prints must not break into an answer
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        read, timeout, memory = receive(questions)
        _bound(memory)
        os.dup2(nowhere, 2)  # from here on: why a reader cannot start is worth reading
        send(answers, "ready")
        while True:
            ref = receive(questions)
            signal.setitimer(signal.ITIMER_REAL, timeout or 0)
            outcome: Outcome = "read"
            try:
                found = read(ref)
            except MemoryError:
                outcome, found = "out of memory", None
            except Exception as error:
                outcome, found = "raised", f"{type(error).__name__}: {error}"
            signal.setitimer(signal.ITIMER_REAL, 0)
            spent = outcome == "out of memory" or _peak() > memory // 2
            send(answers, (outcome, found, spent))


def _bound(memory: int) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # its default ends the process
    resource.setrlimit(resource.RLIMIT_AS, (_CODE + memory, _CODE + memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would be a copy of a participant's image
    with suppress(OSError):  # where memory runs out all the same, Linux is to end this process, not the run
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")


def _peak() -> int:
    """Bytes of memory that this process has taken at most so far.

    Linux says it itself: its ``ru_maxrss`` begins with what the process that started this one had.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
