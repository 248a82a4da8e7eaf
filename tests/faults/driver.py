"""Scores a folder in forks of itself, each ended in the way that a line on standard input asks for.

A fork costs far less than a new interpreter, so that hundreds of faults can be tried. The chain is the fake
one of tests/scoring: no networks, but the run, its journal and its table are the real ones.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py  # noqa: F401 - loaded once, for all forks
import highdicom.sr  # noqa: F401
import numpy as np  # noqa: F401
import polars as pl  # noqa: F401

from kneerisk.errors import KneeriskError
from kneerisk.radiograph.apart.readers import Readers
from kneerisk.scoring.outputs.dicom import capture, report  # noqa: F401
from kneerisk.scoring.settings import RunSettings

CRASHED = 70
EVENTS = {"os.rename": "rename", "os.remove": "unlink", "os.rmdir": "rmdir"}
"""Of the interpreter's audit (renames and replacements are one) → our words; fsync has no event."""


def load_fake() -> ModuleType:
    path = Path(__file__).parents[1] / "scoring" / "fake_chain.py"
    spec = importlib.util.spec_from_file_location("fake_chain", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_chain"] = module
    spec.loader.exec_module(module)
    return module


def watch(act: Callable[[str, int], None]) -> None:
    """Call ``act`` on entering each rename, unlink, rmdir and fsync, with its name and number, from 1."""
    seen: Counter[str] = Counter()

    def entered(name: str) -> None:
        seen[name] += 1
        act(name, seen[name])

    def audit(event: str, _: tuple[object, ...]) -> None:
        if event in EVENTS:
            entered(EVENTS[event])

    fsync = os.fsync

    def watched_fsync(descriptor: int) -> None:
        entered("fsync")
        fsync(descriptor)

    sys.addaudithook(audit)
    os.fsync = watched_fsync  # type: ignore[assignment]


def read_apart(fake: ModuleType) -> None:
    """Let this fork's run read in processes of its own, as a real one does."""
    sys.path.insert(0, str(Path(fake.__file__ or "").parent))  # where a reading process finds the fake
    readers, rooms = Readers(fake.read, timeout=60), fake.rooms
    fake.rooms = lambda *given: replace(rooms(*given), read=readers)


def let_the_clock_jump() -> None:
    """Each look at the time of day is a week before or behind the last."""
    steps = iter(range(1_000_000))

    def jumping() -> float:
        return 1.7e9 + 604_800 * (-1) ** (step := next(steps)) * step

    time.time, time.time_ns = jumping, lambda: int(1e9 * jumping())


def readers_of(run: int) -> list[int]:
    """Processes that a run has started."""
    try:
        tasks = list(Path(f"/proc/{run}/task").iterdir())
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []


def also_of(job: dict[str, Any]) -> dict[str, Path]:
    """The run's other outputs, beside its table."""
    return {name: Path(job["out"]).with_name(place) for name, place in job.get("also", {}).items()}


def score(fake: ModuleType, job: dict[str, Any]) -> None:
    """One run, in this fork; never returns."""
    if job.get("apart"):
        read_apart(fake)
    if job.get("clock"):
        let_the_clock_jump()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    at = job.get("at")  # [name, number, what]
    trace: list[str] = []

    def act(name: str, number: int) -> None:
        trace.append(name)
        if at is not None and [name, number] == at[:2]:
            if at[2] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(at[2], os.strerror(at[2]))

    watch(act)
    code = 0
    try:
        fake.run(
            Path(job["cohort"]),
            RunSettings(*(Path(job["out"]), True), batch_size=2, retry_failed="retry" in job, **also_of(job)),
            pause=job["pause"],
        )
    except KneeriskError as error:
        print(error, flush=True)
        code = int(error.exit_code)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = CRASHED
    if "trace" in job:
        Path(job["trace"]).write_text(json.dumps(Counter(trace)))
    sys.stdout.flush()
    os._exit(code)


def main() -> None:
    """Answer each job with its runs' exit codes (minus the signal that ended one) and the readers killed."""
    fake = load_fake()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        pids = []
        readers_killed = 0
        for number in range(job.get("runs", 1)):
            pid = os.fork()
            if pid == 0:
                score(fake, {**job, "log": f"{job['log']}.{number}"})
            pids.append(pid)
        if "reader" in job:  # seconds, and then a reading process ends
            time.sleep(job["reader"])
            if readers := readers_of(pids[0]):
                os.kill(readers[0], signal.SIGKILL)
                readers_killed += 1
        if "meddle" in job:  # [seconds, {name: text, or null for a file that goes}]
            time.sleep(job["meddle"][0])
            for name, text in job["meddle"][1].items():
                path = Path(job["cohort"], name)
                path.unlink() if text is None else path.write_text(text)
        if "after" in job:  # [seconds, signal]
            time.sleep(job["after"][0])
            os.kill(pids[0], job["after"][1])  # not yet waited for: the number is still its own
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps([codes, readers_killed]), flush=True)


if __name__ == "__main__":
    main()
